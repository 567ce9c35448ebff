//! Reading a JSON value into a type the way users' files are read: every field that the type does not have is an
//! error that names its path, and names are matched without regard to case, as Go's decoder does.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::suggest;
use crate::validate::ValidationError;

/// Most values of the wrong type that are told at once: each costs another reading of the whole.
const MOST_WRONG: usize = 50;

/// Reads `value`, which stands at `path` in its document.
///
/// # Errors
/// With all unknown fields and all values of the wrong type.
pub(crate) fn from_value<'de, T: de::Deserialize<'de>>(
    path: &str,
    value: &Value,
) -> Result<T, Vec<ValidationError>> {
    match read(path, value) {
        Reading { value: Some(value), errors, .. } if errors.is_empty() => Ok(value),
        Reading { errors, .. } => Err(errors),
    }
}

/// What can be read of a value, and what is wrong with it.
pub(crate) struct Reading<T> {
    /// Without what is wrong; none where nothing is left.
    pub(crate) value: Option<T>,
    /// Unknown fields and values of the wrong type.
    pub(crate) errors: Vec<ValidationError>,
    /// Where values were left out.
    pub(crate) left_out: BTreeSet<String>,
}

/// Reads what is right of `value`, and says what is wrong. A type's own reading ends at the first wrong value, so it is
/// read again without that one, until the rest can be read.
pub(crate) fn read<'de, T: de::Deserialize<'de>>(path: &str, value: &Value) -> Reading<T> {
    let mut faults = Faults::default();
    let mut wrong = Vec::new();
    let value = loop {
        let Failure { place, field, value, reason } =
            match T::deserialize(At { path: path.to_owned(), value, faults: &mut faults }) {
                Ok(value) => break Some(value),
                Err(failure) => failure,
            };
        // What is needed and was left out is there, only wrong.
        if !faults.left_out.contains(&field) {
            wrong.push(ValidationError::new(field, value, reason));
        }
        let inner = place.filter(|place| place != path);
        if wrong.len() >= MOST_WRONG || !inner.is_some_and(|place| faults.left_out.insert(place)) {
            break None;
        }
    };
    let unknown = faults
        .unknown
        .into_iter()
        .map(|(field, Unknown { value, reason })| ValidationError::new(field, value, reason));
    Reading { value, errors: unknown.chain(wrong).collect(), left_out: faults.left_out }
}

/// Where a field of what was read stands in the document: its lists lack what was left out. None for what was itself
/// left out, or has lost a part.
pub(crate) fn path_in_document(field: &str, left_out: &BTreeSet<String>) -> Option<String> {
    let mut path = String::with_capacity(field.len());
    for (n, part) in field.split('[').enumerate() {
        let (index, rest) = match (n, part.split_once(']')) {
            (1.., Some((index, rest))) => (index.parse().ok(), rest),
            _ => (None, part),
        };
        if let Some(index) = index {
            let mut kept = (0..).map(|i: usize| format!("{path}[{i}]")).filter(|p| !left_out.contains(p));
            path = kept.nth(index).unwrap_or_default();
        } else if n > 0 {
            path.push('[');
        }
        path.push_str(rest);
    }
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    (!left_out.iter().any(|left| within(&path, left) || within(left, &path))).then_some(path)
}

/// What is wrong so far, by path.
#[derive(Debug, Default)]
struct Faults {
    /// Fields that a type does not have.
    unknown: IndexMap<String, Unknown>,
    /// Values of the wrong type: they are passed over.
    left_out: BTreeSet<String>,
}

/// A field that a type does not have.
#[derive(Debug)]
struct Unknown {
    /// Its value as shown.
    value: String,
    reason: String,
}

/// A value of the wrong type: where, what, and what would be right.
#[derive(Debug)]
struct Failure {
    /// The value that cannot be read; none until it is known.
    place: Option<String>,
    /// The value, or the member that it lacks.
    field: String,
    value: String,
    reason: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: std::fmt::Display>(message: T) -> Failure {
        Failure { place: None, field: String::new(), value: String::new(), reason: message.to_string() }
    }

    fn missing_field(field: &'static str) -> Failure {
        Failure { field: field.to_owned(), ..<Failure as de::Error>::custom("is needed") }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Failure {
        // The value itself is shown beside the reason.
        let expected = expected.to_string();
        let expected = in_words(&expected);
        let hint = match found {
            de::Unexpected::Bool(_) if expected == "a string" => {
                "; put it in quotes (YAML reads a bare y, n, yes, no, on and off as true or false)"
            }
            de::Unexpected::Unsigned(_) | de::Unexpected::Signed(_) | de::Unexpected::Float(_)
                if expected == "a string" =>
            {
                "; put it in quotes"
            }
            _ => "",
        };
        <Failure as de::Error>::custom(format_args!("is {}, must be {expected}{hint}", kind_of(&found)))
    }

    fn invalid_value(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Failure {
        <Failure as de::Error>::custom(format_args!("must be {}", in_words(&expected.to_string())))
    }
}

/// Serde's name of what was expected, in words of users.
fn in_words(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "a boolean" => "true or false",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        name if name.starts_with("struct ") => "a map",
        other => other,
    }
}

impl Failure {
    /// The innermost place wins.
    fn at(mut self, path: &str, value: &Value) -> Failure {
        if self.place.is_none() {
            self.place = Some(path.to_owned());
            if self.field.is_empty() {
                path.clone_into(&mut self.field);
                self.reason = without_value(&text_of(value), &self.reason).to_owned();
                self.value = shown(value);
            } else {
                self.field = join(path, &self.field);
            }
        }
        self
    }
}

/// A reason without the value that it begins with: the value stands before the reason.
pub(crate) fn without_value<'a>(value: &str, reason: &'a str) -> &'a str {
    let rest = reason.strip_prefix(&format!("{value:?}"));
    rest.and_then(|rest| rest.strip_prefix(' ')).unwrap_or(reason)
}

/// What a value is, without the value.
fn kind_of(found: &de::Unexpected<'_>) -> &'static str {
    match found {
        de::Unexpected::Bool(_) => "true or false",
        de::Unexpected::Unsigned(_) | de::Unexpected::Signed(_) | de::Unexpected::Float(_) => "a number",
        de::Unexpected::Str(_) => "text",
        de::Unexpected::Seq => "a list",
        de::Unexpected::Map => "a map",
        _ => "of another type",
    }
}

/// A value as errors show it: text without quotes, long things cut.
pub(crate) fn shown(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = text_of(value);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A value and its place.
struct At<'a, 'v> {
    path: String,
    value: &'v Value,
    faults: &'a mut Faults,
}

impl At<'_, '_> {
    /// Visits a list or a map; `fields` are the names of a struct, if it is one.
    fn visit<'de, V: Visitor<'de>>(
        self,
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let At { path, value, faults } = self;
        let result = match value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::String(s) => visitor.visit_str(s),
            Value::Number(n) => visit_number(n, visitor),
            Value::Array(list) => visitor.visit_seq(Elements { path: &path, index: 0, list, faults }),
            Value::Object(map) => {
                let entries = known(&path, map, fields, faults);
                visitor.visit_map(Entries { path: &path, entries: entries.into_iter(), next: None, faults })
            }
        };
        result.map_err(|e| e.at(&path, value))
    }
}

fn visit_number<'de, V: Visitor<'de>>(number: &serde_json::Number, visitor: V) -> Result<V::Value, Failure> {
    match (number.as_u64(), number.as_i64(), number.as_f64()) {
        (Some(n), _, _) => visitor.visit_u64(n),
        (_, Some(n), _) => visitor.visit_i64(n),
        (_, _, Some(n)) => visitor.visit_f64(n),
        _ => Err(de::Error::custom("the number is too large")),
    }
}

/// The members that a struct has, under their canonical names; the others are reported. Null counts as absent.
fn known<'v>(
    path: &str,
    map: &'v Map<String, Value>,
    fields: Option<&'static [&'static str]>,
    faults: &mut Faults,
) -> Vec<(&'v str, &'v Value)> {
    let mut entries = Vec::with_capacity(map.len());
    for (name, value) in map.iter().filter(|(_, v)| !v.is_null()) {
        let canonical = match fields {
            None => Some(name.as_str()),
            Some(fields) => fields
                .iter()
                .find(|f| *f == name)
                .or_else(|| fields.iter().find(|f| f.eq_ignore_ascii_case(name)))
                .copied(),
        };
        match canonical {
            Some(canonical) if faults.left_out.contains(&join(path, canonical)) => {}
            Some(canonical) => entries.push((canonical, value)),
            None => {
                let reason = suggest::unknown_field(name, fields.unwrap_or_default().iter().copied());
                faults.unknown.insert(join(path, name), Unknown { value: shown(value), reason });
            }
        }
    }
    entries
}

/// `path.name`, or `name` at the top.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

struct Elements<'a, 'v> {
    path: &'a str,
    index: usize,
    list: &'v [Value],
    faults: &'a mut Faults,
}

impl<'de> SeqAccess<'de> for Elements<'_, '_> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        let (value, path) = loop {
            let Some(value) = self.list.get(self.index) else { return Ok(None) };
            let path = format!("{}[{}]", self.path, self.index);
            self.index += 1;
            if !self.faults.left_out.contains(&path) {
                break (value, path);
            }
        };
        let result = seed.deserialize(At { path: path.clone(), value, faults: self.faults });
        result.map(Some).map_err(|e| e.at(&path, value))
    }
}

struct Entries<'a, 'v> {
    path: &'a str,
    entries: std::vec::IntoIter<(&'v str, &'v Value)>,
    next: Option<(&'v str, &'v Value)>,
    faults: &'a mut Faults,
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        self.next = self.entries.next();
        self.next.map(|(name, _)| seed.deserialize(name.into_deserializer())).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        let (name, value) =
            self.next.take().ok_or_else(|| <Failure as de::Error>::custom("a value without a name"))?;
        let path = join(self.path, name);
        let result = seed.deserialize(At { path: path.clone(), value, faults: self.faults });
        result.map_err(|e| e.at(&path, value))
    }
}

impl<'de> Deserializer<'de> for At<'_, '_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.visit(None, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.visit(Some(fields), visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests;
