//! Passwords of sessions: found in Secrets, held to what the speaker and the kernel can take, never shown.

use std::collections::BTreeMap;
use std::fmt;

use smol_str::SmolStr;

/// The longest key of TCP MD5 signatures in Linux (`TCP_MD5SIG_MAXKEYLEN`, linux/tcp.h).
const MAX_BYTES: usize = 80;

/// A password that can be put between the quotes of the speaker's configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(SmolStr);

impl Password {
    /// Takes the bytes of a Secret. One newline at the end is dropped: editors and `kubectl` from files leave it there.
    pub fn new(bytes: &[u8]) -> Result<Password, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
        let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if text.len() > MAX_BYTES {
            return Err(format!("has {} bytes; TCP MD5 takes at most {MAX_BYTES}", text.len()));
        }
        if text.contains(|c: char| c == '"' || c.is_control()) {
            return Err("contains a double quote or a control character, which BIRD cannot take".to_owned());
        }
        Ok(Password(SmolStr::new(text)))
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// What a Secret holds, by key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretData(pub BTreeMap<SmolStr, Vec<u8>>);

impl fmt::Debug for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretRef {
    /// The Secret.
    pub name: SmolStr,
    /// The key.
    pub key: SmolStr,
    /// Nobody needs to know if it is absent.
    pub optional: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bird_and_the_kernel_can_take() {
        let check = |bytes: &[u8], expected: Result<&str, &str>| {
            let password = Password::new(bytes);
            match (&password, expected) {
                (Ok(password), Ok(text)) => assert_eq!(password.reveal(), text),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                _ => panic!("{password:?} {expected:?}"),
            }
        };
        check(b"it's 1 \\ # secret;", Ok("it's 1 \\ # secret;"));
        check(b"two\n", Ok("two"));
        check(b"two\r\n", Ok("two"));
        check("ü".repeat(40).as_bytes(), Ok(&"ü".repeat(40)));
        check(b"", Err("empty"));
        check(b"\n", Err("empty"));
        check(&[b'a'; 81], Err("81 bytes"));
        check(b"a\"; log all;", Err("quote"));
        check(b"a\nb", Err("control"));
        check(b"\xff", Err("UTF-8"));
    }

    #[test]
    fn nothing_secret_is_shown() {
        let secret = SecretData([("key".into(), b"hidden".to_vec())].into());
        let shown = format!("{secret:?} {:?}", Password::new(b"hidden").unwrap());
        assert!(shown.contains("key") && !shown.contains("hidden"), "{shown}");
    }
}
