//! Enumerations of words as resources spell them, tolerant of words that a newer writer may have stored.

/// Declares an enumeration whose variants are written as words. Parsing ignores case and prints the canonical
/// spelling; a word that is not in the list is kept in `Other`, so that stored objects survive, and validation
/// refuses it in users' files.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$vmeta])* $variant,)+
            /// A word that this version does not know.
            Other(smol_str::SmolStr),
        }

        impl $name {
            /// The known words, canonically spelt.
            pub const WORDS: &'static [&'static str] = &[$($text),+];

            /// The word as resources spell it.
            pub fn as_str(&self) -> &str {
                match self {
                    $($name::$variant => $text,)+
                    $name::Other(text) => text,
                }
            }

            /// Whether this version knows the word.
            pub fn is_known(&self) -> bool {
                !matches!(self, $name::Other(_))
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> $name {
                $(if text.eq_ignore_ascii_case($text) {
                    return $name::$variant;
                })+
                $name::Other(smol_str::SmolStr::new(text))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<Z: serde::Serializer>(&self, s: Z) -> Result<Z::Ok, Z::Error> {
                s.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<$name, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                Ok($name::from(&*text))
            }
        }
    };
}

pub(crate) use words;

/// For `skip_serializing_if`: booleans that are stored only when true.
pub(crate) fn is_false(value: &bool) -> bool {
    !value
}
