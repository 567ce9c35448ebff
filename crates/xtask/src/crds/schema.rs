//! The words that the tables of kinds are written in: structural schemas of OpenAPI v3 as Kubernetes takes them.

use serde_json::{Map, Value, json};

/// A schema under construction: the JSON object that it becomes.
#[derive(Clone, Debug)]
pub struct Schema(Map<String, Value>);

/// A property: its name, its schema, and what it means to who writes it.
pub type Property = (&'static str, Schema, &'static str);

fn typed(name: &str) -> Schema {
    Schema(Map::new()).with("type", name)
}

/// A string.
pub fn text() -> Schema {
    typed("string")
}

/// true or false.
pub fn boolean() -> Schema {
    typed("boolean")
}

/// A whole number.
pub fn integer() -> Schema {
    typed("integer")
}

/// A number with or without a fraction.
pub fn number() -> Schema {
    typed("number")
}

/// A whole number of 32 bits.
pub fn int32() -> Schema {
    integer().with("format", "int32")
}

/// A whole number of 64 bits.
pub fn int64() -> Schema {
    integer().with("format", "int64")
}

/// A port.
pub fn port() -> Schema {
    integer().within(1, 65535)
}

/// A number or a string: ports, protocols.
pub fn int_or_text() -> Schema {
    Schema(Map::new()).with("x-kubernetes-int-or-string", true)
}

/// A moment as RFC 3339 writes it.
pub fn moment() -> Schema {
    text().with("format", "date-time")
}

/// A CIDR that the API server itself checks.
pub fn cidr() -> Schema {
    text().with("format", "cidr")
}

/// A selector expression.
pub fn selector() -> Schema {
    text().longest(1024)
}

/// A length of time as Go writes it: `90s`, `1m30s`.
pub fn duration() -> Schema {
    text().pattern(r"^(([0-9]*\.)?[0-9]+(ns|us|ms|s|m|h))*$|^0$")
}

/// A string that is one of these words.
pub fn word(words: &[&str]) -> Schema {
    text().with("enum", words)
}

/// A list.
pub fn list(item: Schema) -> Schema {
    typed("array").with("items", item.0)
}

/// A list that a patch replaces as a whole.
pub fn atomic_list(item: Schema) -> Schema {
    list(item).with("x-kubernetes-list-type", "atomic")
}

/// A list without order and without doubles.
pub fn set(item: Schema) -> Schema {
    list(item).with("x-kubernetes-list-type", "set")
}

/// An object with any names, and values of one schema.
pub fn map_of(value: Schema) -> Schema {
    typed("object").with("additionalProperties", value.0)
}

/// An object of which nothing is said.
pub fn any_object() -> Schema {
    typed("object")
}

/// An object with these properties.
pub fn object(properties: impl IntoIterator<Item = Property>) -> Schema {
    let members: Map<String, Value> = properties
        .into_iter()
        .map(|(name, schema, about)| (name.to_owned(), Value::Object(schema.about(about).0)))
        .collect();
    typed("object").with("properties", members)
}

impl Schema {
    /// The JSON.
    pub fn into_json(self) -> Value {
        Value::Object(self.0)
    }

    /// Sets a keyword.
    pub fn with(mut self, keyword: &str, value: impl serde::Serialize) -> Self {
        self.0.insert(keyword.to_owned(), json!(value));
        self
    }

    /// What it means, in front of its other keywords; nothing if nothing is said.
    pub fn about(self, text: &str) -> Self {
        if text.is_empty() {
            return self;
        }
        let mut members = Map::new();
        members.insert("description".to_owned(), json!(text));
        members.extend(self.0);
        Schema(members)
    }

    /// At most this many characters.
    pub fn longest(self, characters: u32) -> Self {
        self.with("maxLength", characters)
    }

    /// At most this many items.
    pub fn at_most(self, items: u32) -> Self {
        self.with("maxItems", items)
    }

    /// At least this many items.
    pub fn at_least(self, items: u32) -> Self {
        self.with("minItems", items)
    }

    /// A number from the first to the second, both included.
    pub fn within(self, least: i64, most: i64) -> Self {
        self.with("minimum", least).with("maximum", most)
    }

    /// Text that matches a regular expression (RE2).
    pub fn pattern(self, expression: &str) -> Self {
        self.with("pattern", expression)
    }

    /// What the API server fills in.
    pub fn default(self, value: impl serde::Serialize) -> Self {
        self.with("default", value)
    }

    /// `null` is a value too.
    pub fn nullable(self) -> Self {
        self.with("nullable", true)
    }

    /// An object that a patch replaces as a whole.
    pub fn atomic(self) -> Self {
        self.with("x-kubernetes-map-type", "atomic")
    }

    /// An object of which exactly one member is given.
    pub fn just_one(self) -> Self {
        self.with("minProperties", 1).with("maxProperties", 1)
    }

    /// Members that must be there.
    pub fn required(self, names: &[&str]) -> Self {
        self.with("required", names)
    }

    /// Adds a property to an object.
    pub fn property(mut self, (name, schema, about): Property) -> Self {
        if let Some(Value::Object(members)) = self.0.get_mut("properties") {
            members.insert(name.to_owned(), Value::Object(schema.about(about).0));
        }
        self
    }

    /// Adds a condition in CEL, and what a user is told where it does not hold.
    pub fn rule(mut self, condition: impl Into<String>, message: &str) -> Self {
        let rule = json!({ "rule": condition.into(), "message": message });
        match self.0.get_mut("x-kubernetes-validations") {
            Some(Value::Array(rules)) => rules.push(rule),
            _ => self = self.with("x-kubernetes-validations", [rule]),
        }
        self
    }

    /// At most one of two texts or lists is given; the empty one counts as not given.
    pub fn not_both(self, one: &str, other: &str) -> Self {
        let message = format!("{one} and {other} exclude one another: give one of them");
        self.rule(format!("!({} && {})", given(one), given(other)), &message)
    }

    /// The first text or list needs the second.
    pub fn needs(self, one: &str, other: &str) -> Self {
        let message = format!("{one} needs {other}");
        self.rule(format!("!{} || {}", given(one), given(other)), &message)
    }

    /// A selector in which `global()` has no meaning.
    pub fn without_global(self, name: &str) -> Self {
        let message =
            format!("{name}: global() is only for the namespaceSelector of a rule's source or destination");
        self.rule(format!("!has(self.{name}) || !self.{name}.contains('global(')"), &message)
    }
}

/// CEL: the text or list is there and not empty.
pub fn given(name: &str) -> String {
    format!("(has(self.{name}) && size(self.{name}) > 0)")
}

/// CEL: the boolean is there and true.
pub fn on(name: &str) -> String {
    format!("(has(self.{name}) && self.{name})")
}
