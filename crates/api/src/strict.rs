//! Reading a JSON value into a type the way users' files are read: every field that the type does not have is an
//! error that names its path, and names are matched without regard to case, as Go's decoder does.

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::validate::ValidationError;

/// Reads `value`, which stands at `path` in its document. All unknown fields are reported, and at most one value of
/// the wrong type (reading ends there).
pub(crate) fn from_value<'de, T: de::Deserialize<'de>>(
    path: &str,
    value: &Value,
) -> Result<T, Vec<ValidationError>> {
    let mut unknown = Vec::new();
    let result = T::deserialize(At { path: path.to_owned(), value, unknown: &mut unknown });
    match result {
        Ok(read) if unknown.is_empty() => Ok(read),
        Ok(_) => Err(unknown),
        Err(Failure { path, value, reason }) => {
            unknown.push(ValidationError { field: path, value, reason });
            Err(unknown)
        }
    }
}

/// A value of the wrong type: where, what, and what would be right.
#[derive(Debug)]
struct Failure {
    path: String,
    value: String,
    reason: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: std::fmt::Display>(message: T) -> Failure {
        Failure { path: String::new(), value: String::new(), reason: message.to_string() }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Failure {
        // The value itself is shown beside the reason.
        let hint = match found {
            de::Unexpected::Bool(_) if expected.to_string() == "a string" => {
                ": put it in quotes (YAML reads a bare y, n, yes, no, on and off as true or false)"
            }
            de::Unexpected::Unsigned(_) | de::Unexpected::Signed(_) | de::Unexpected::Float(_)
                if expected.to_string() == "a string" =>
            {
                ": put it in quotes"
            }
            _ => "",
        };
        <Failure as de::Error>::custom(format_args!("is {}, must be {expected}{hint}", kind_of(&found)))
    }
}

impl Failure {
    /// The innermost place wins.
    fn at(mut self, path: &str, value: &Value) -> Failure {
        if self.path.is_empty() {
            path.clone_into(&mut self.path);
            self.value = shown(value);
        }
        self
    }
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
fn shown(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A value and its place.
struct At<'a, 'v> {
    path: String,
    value: &'v Value,
    unknown: &'a mut Vec<ValidationError>,
}

impl At<'_, '_> {
    /// Visits a list or a map; `fields` are the names of a struct, if it is one.
    fn visit<'de, V: Visitor<'de>>(
        self,
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let At { path, value, unknown } = self;
        let result = match value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::String(s) => visitor.visit_str(s),
            Value::Number(n) => visit_number(n, visitor),
            Value::Array(list) => visitor.visit_seq(Elements { path: &path, index: 0, list, unknown }),
            Value::Object(map) => {
                let entries = known(&path, map, fields, unknown);
                visitor.visit_map(Entries { path: &path, entries: entries.into_iter(), next: None, unknown })
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
    unknown: &mut Vec<ValidationError>,
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
            Some(canonical) => entries.push((canonical, value)),
            None => unknown.push(ValidationError {
                field: join(path, name),
                value: shown(value),
                reason: "this field is not known here: it is misspelt or in the wrong place".to_owned(),
            }),
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
    unknown: &'a mut Vec<ValidationError>,
}

impl<'de> SeqAccess<'de> for Elements<'_, '_> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        let Some(value) = self.list.get(self.index) else { return Ok(None) };
        let path = format!("{}[{}]", self.path, self.index);
        self.index += 1;
        let result = seed.deserialize(At { path: path.clone(), value, unknown: self.unknown });
        result.map(Some).map_err(|e| e.at(&path, value))
    }
}

struct Entries<'a, 'v> {
    path: &'a str,
    entries: std::vec::IntoIter<(&'v str, &'v Value)>,
    next: Option<(&'v str, &'v Value)>,
    unknown: &'a mut Vec<ValidationError>,
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
        let result = seed.deserialize(At { path: path.clone(), value, unknown: self.unknown });
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
mod tests {
    use super::*;
    use crate::NetworkPolicySpec;

    fn errors(value: Value) -> Vec<(String, String)> {
        from_value::<NetworkPolicySpec>("spec", &value)
            .unwrap_err()
            .into_iter()
            .map(|e| (e.field, e.value))
            .collect()
    }

    #[test]
    fn errors_name_the_path_and_the_value() {
        let value = serde_json::json!({
            "Order": 5, "ordre": 6,
            "ingress": [{"action": "Allow", "source": {"prots": [1], "ports": [80, "90:80"]}}],
        });
        assert_eq!(
            errors(value),
            [
                ("spec.ordre".to_owned(), "6".to_owned()),
                ("spec.ingress[0].source.prots".to_owned(), "[1]".to_owned()),
                ("spec.ingress[0].source.ports[1]".to_owned(), "90:80".to_owned()),
            ]
        );
        assert_eq!(
            errors(serde_json::json!({"ingress": {}})),
            [("spec.ingress".to_owned(), "{}".to_owned())]
        );
        assert_eq!(
            errors(serde_json::json!({"ingress": [{"source": {}}]})),
            [("spec.ingress[0]".to_owned(), "{\"source\":{}}".to_owned())]
        );
    }

    #[test]
    fn case_and_nulls_are_forgiven() {
        let value = serde_json::json!({"ORDER": 5, "ingress": null, "Selector": "all()"});
        let spec: NetworkPolicySpec = from_value("spec", &value).unwrap();
        assert_eq!((spec.order, spec.selector.as_str()), (Some(crate::Order(5.0)), "all()"));
    }
}
