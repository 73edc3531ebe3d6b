//! Rust types to JSON Schema (2020-12), as serde reads and writes them.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};
use syn::{Field, Fields, GenericArgument, PathArguments, Variant};

use crate::exceptions;
use crate::source::{Shape, Sources, Type, derives, doc, serde};

/// Which way a value goes: what has to be there differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Into the server.
    In,
    /// Out of it.
    Out,
}

/// Schemas by name, made when first needed.
pub struct Schemas<'a> {
    /// What was read.
    pub sources: &'a Sources,
    /// Named schemas.
    pub named: BTreeMap<String, Value>,
    /// The file that a named schema's type is in.
    pub files: HashMap<String, String>,
}

/// Types that stand for the parameters of a generic one.
type Arguments = HashMap<String, Value>;

impl Schemas<'_> {
    /// The schema of a type as it is written in a file.
    pub fn of(&mut self, file: &str, written: &syn::Type, way: Way) -> Value {
        self.within(file, written, way, &Arguments::new())
    }

    /// The schema of a type by its path.
    pub fn named(&mut self, file: &str, path: &str, way: Way) -> Value {
        let written: syn::Type = syn::parse_str(path).expect("a type");
        self.of(file, &written, way)
    }

    fn within(&mut self, file: &str, written: &syn::Type, way: Way, arguments: &Arguments) -> Value {
        let path = match written {
            syn::Type::Path(path) => &path.path,
            syn::Type::Reference(reference) => return self.within(file, &reference.elem, way, arguments),
            syn::Type::Tuple(tuple) => {
                let items: Vec<Value> = tuple.elems.iter().map(|one| self.within(file, one, way, arguments)).collect();
                return json!({ "type": "array", "prefixItems": items, "minItems": items.len(), "maxItems": items.len() });
            }
            syn::Type::Array(array) => {
                return json!({ "type": "array", "items": self.within(file, &array.elem, way, arguments) });
            }
            syn::Type::Slice(slice) => {
                return json!({ "type": "array", "items": self.within(file, &slice.elem, way, arguments) });
            }
            _ => panic!("{file}: a type that has no schema"),
        };
        let last = path.segments.last().expect("a name");
        let inner: Vec<&syn::Type> = match &last.arguments {
            PathArguments::AngleBracketed(list) => list
                .args
                .iter()
                .filter_map(|one| if let GenericArgument::Type(one) = one { Some(one) } else { None })
                .collect(),
            _ => Vec::new(),
        };
        let whole = |low: i64, high: u64| json!({ "type": "integer", "minimum": low, "maximum": high });
        match (last.ident.to_string().as_str(), inner.as_slice()) {
            ("Option", [one]) => nullable(self.within(file, one, way, arguments)),
            ("Box" | "Arc" | "Cow", [.., one]) => self.within(file, one, way, arguments),
            ("Vec" | "BTreeSet" | "HashSet" | "VecDeque", [one]) => {
                json!({ "type": "array", "items": self.within(file, one, way, arguments) })
            }
            ("BTreeMap" | "HashMap", [_, one]) => {
                json!({ "type": "object", "additionalProperties": self.within(file, one, way, arguments) })
            }
            ("Map", _) => json!({ "type": "object" }),
            ("Value", []) => json!({}),
            ("bool", []) => json!({ "type": "boolean" }),
            ("u8", []) => whole(0, u64::from(u8::MAX)),
            ("u16", []) => whole(0, u64::from(u16::MAX)),
            ("u32", []) => whole(0, u64::from(u32::MAX)),
            ("u64" | "usize", []) => json!({ "type": "integer", "minimum": 0 }),
            ("i32" | "i64", []) => json!({ "type": "integer", "format": last.ident.to_string().replace('i', "int") }),
            ("f32" | "f64", []) => json!({ "type": "number" }),
            ("String" | "str" | "SecretString" | "PathBuf" | "char", []) => json!({ "type": "string" }),
            (name, parameters) => {
                if let Some(argument) = arguments.get(name) {
                    return argument.clone();
                }
                let path: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
                let parameters: Vec<Value> =
                    parameters.iter().map(|one| self.within(file, one, way, arguments)).collect();
                self.own(file, &path.join("::"), &parameters, way)
            }
        }
    }

    /// A type of ours; any other is a string, as addresses and times are.
    fn own(&mut self, file: &str, path: &str, parameters: &[Value], way: Way) -> Value {
        let Some((found, name)) = self.sources.find(file, path) else {
            // An alias has no declaration to read.
            let last = path.rsplit("::").next().unwrap_or_default();
            return exceptions::schema(last).unwrap_or_else(|| json!({ "type": "string" }));
        };
        if let Some(schema) = exceptions::schema(&name) {
            return schema;
        }
        let words = serde(&found.attributes);
        let as_text = match way {
            Way::In => ["try_from", "from"],
            Way::Out => ["into", "into"],
        };
        let derived = derives(&found.attributes, if way == Way::In { "Deserialize" } else { "Serialize" });
        let merged = exceptions::merged(&name);
        let is_text = as_text.iter().any(|word| words.contains_key(*word)) || !derived;
        if is_text && merged.is_none() {
            return json!({ "type": "string" });
        }
        let arguments: Arguments =
            found.generics.type_params().map(|one| one.ident.to_string()).zip(parameters.iter().cloned()).collect();
        if let (Shape::Struct(Fields::Unnamed(fields)), 1) = (&found.shape, fields_of(found)) {
            return self.within(&found.file, &fields.unnamed[0].ty, way, &arguments);
        }
        let mut key = name.clone();
        for parameter in parameters {
            let inner = parameter.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
            key.push_str(&format!("Of{}", inner.unwrap_or("Any")));
        }
        let is_struct = matches!(found.shape, Shape::Struct(_));
        if way == Way::In && is_struct && !key.ends_with("In") {
            key.push_str("In");
        }
        // Names are unique within a module only.
        let key = match self.files.get(&key) {
            Some(other) if *other != found.file => {
                let stem = found.file.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
                format!("{}{}{key}", stem[..1].to_uppercase(), &stem[1..])
            }
            _ => key,
        };
        assert!(self.files.get(&key).is_none_or(|file| *file == found.file), "{key} is the name of several types");
        self.files.insert(key.clone(), found.file.clone());
        let reference = json!({ "$ref": format!("#/components/schemas/{key}") });
        if !self.named.contains_key(&key) {
            // Before its fields are looked at: a type may contain itself.
            self.named.insert(key.clone(), Value::Null);
            let mut schema = match &found.shape {
                Shape::Struct(Fields::Unnamed(fields)) => {
                    let items: Vec<Value> =
                        fields.unnamed.iter().map(|one| self.within(&found.file, &one.ty, way, &arguments)).collect();
                    json!({ "type": "array", "prefixItems": items, "minItems": items.len(), "maxItems": items.len() })
                }
                Shape::Struct(fields) => self.fields(found, fields, way, &arguments),
                Shape::Enum(variants) => self.variants(found, variants, way, &arguments),
            };
            if let Some((record, extra)) = merged {
                schema = self.merge(&found.file, record, extra, way);
            }
            let text = doc(&found.attributes);
            if !text.is_empty() {
                schema["description"] = text.into();
            }
            self.named.insert(key, schema);
        }
        reference
    }

    /// The schema of a struct, in place, with more properties. Those whose value is null are left out.
    pub fn merge(&mut self, file: &str, record: &str, extra: Value, way: Way) -> Value {
        let (found, _) = self.sources.find(file, record).unwrap_or_else(|| panic!("{record} in {file}"));
        let Shape::Struct(fields) = &found.shape else { panic!("{record} is no struct") };
        let mut schema = self.fields(found, fields, way, &Arguments::new());
        let required: Vec<Value> = extra["required"].as_array().cloned().unwrap_or_default();
        for (name, property) in extra["properties"].as_object().into_iter().flatten() {
            if property.is_null() {
                schema["properties"].as_object_mut().expect("properties").remove(name);
            } else {
                schema["properties"][name] = property.clone();
            }
        }
        let known = schema["properties"].clone();
        let mut all = schema["required"].as_array().cloned().unwrap_or_default();
        all.extend(required);
        all.retain(|name| known.get(name.as_str().unwrap_or_default()).is_some());
        if !all.is_empty() {
            schema["required"] = all.into();
        }
        schema
    }

    /// Every property may be left out, or be null: then it goes back to its default.
    pub fn patch(&mut self, file: &str, record: &str, extra: Value) -> Value {
        let mut schema = self.merge(file, record, extra, Way::In);
        if let Some(object) = schema.as_object_mut() {
            object.remove("required");
        }
        for property in schema["properties"].as_object_mut().into_iter().flat_map(Map::values_mut) {
            *property = nullable(property.take());
        }
        schema
    }

    fn fields(&mut self, of: &Type, fields: &Fields, way: Way, arguments: &Arguments) -> Value {
        let words = serde(&of.attributes);
        let mut schema = self.properties(&of.file, fields.iter(), &words, way, arguments);
        if way == Way::In && words.contains_key("deny_unknown_fields") {
            schema["additionalProperties"] = false.into();
        }
        schema
    }

    fn properties<'f>(
        &mut self,
        file: &str,
        fields: impl Iterator<Item = &'f Field>,
        container: &HashMap<String, String>,
        way: Way,
        arguments: &Arguments,
    ) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in fields {
            let words = serde(&field.attrs);
            let skipped = ["skip", if way == Way::In { "skip_deserializing" } else { "skip_serializing" }];
            if skipped.iter().any(|word| words.contains_key(*word)) {
                continue;
            }
            let name = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
            let name = words.get("rename").cloned().unwrap_or_else(|| renamed(&name, container.get("rename_all")));
            let mut schema = self.within(file, &field.ty, way, arguments);
            let is_option = matches!(&field.ty, syn::Type::Path(path)
                if path.path.segments.last().is_some_and(|last| last.ident == "Option"));
            let may_lack = match way {
                Way::In => is_option || words.contains_key("default") || container.contains_key("default"),
                Way::Out => words.contains_key("skip_serializing_if"),
            };
            if !may_lack {
                required.push(Value::from(name.clone()));
            }
            if let Some(better) = exceptions::field(file, &name) {
                schema = better;
            }
            let text = doc(&field.attrs);
            if !text.is_empty() {
                schema["description"] = text.into();
            }
            properties.insert(name, schema);
        }
        let mut schema = json!({ "type": "object", "properties": properties });
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        schema
    }

    fn variants(&mut self, of: &Type, variants: &[Variant], way: Way, arguments: &Arguments) -> Value {
        let words = serde(&of.attributes);
        let name = |variant: &Variant| {
            let own = serde(&variant.attrs);
            own.get("rename").cloned().unwrap_or_else(|| renamed(&variant.ident.to_string(), words.get("rename_all")))
        };
        if variants.iter().all(|variant| matches!(variant.fields, Fields::Unit)) && !words.contains_key("tag") {
            let all: Vec<String> = variants.iter().map(name).collect();
            return json!({ "type": "string", "enum": all });
        }
        let mut all = Vec::new();
        for variant in variants {
            let content = match &variant.fields {
                Fields::Unit => None,
                Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                    Some(self.within(&of.file, &fields.unnamed[0].ty, way, arguments))
                }
                Fields::Unnamed(_) => Some(json!({ "type": "array" })),
                Fields::Named(fields) => {
                    let inner: HashMap<String, String> = words
                        .get("rename_all_fields")
                        .map(|rule| ("rename_all".to_owned(), rule.clone()))
                        .into_iter()
                        .collect();
                    Some(self.properties(&of.file, fields.named.iter(), &inner, way, arguments))
                }
            };
            let name = name(variant);
            all.push(match (words.get("tag"), words.get("content"), content) {
                (None, _, None) => json!({ "const": name }),
                (None, _, Some(content)) => {
                    json!({ "type": "object", "properties": { &name: content }, "required": [name], "additionalProperties": false })
                }
                (Some(tag), Some(place), Some(content)) => json!({
                    "type": "object", "properties": { tag: { "const": name }, place: content }, "required": [tag, place]
                }),
                (Some(tag), _, content) => {
                    let mut schema = content.unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
                    schema["properties"][tag] = json!({ "const": name });
                    let mut required = schema["required"].as_array().cloned().unwrap_or_default();
                    required.push(tag.clone().into());
                    schema["required"] = required.into();
                    schema
                }
            });
        }
        json!({ "oneOf": all })
    }
}

fn fields_of(of: &Type) -> usize {
    match &of.shape {
        Shape::Struct(fields) => fields.len(),
        Shape::Enum(_) => 0,
    }
}

/// A value or null.
pub fn nullable(schema: Value) -> Value {
    match schema.get("type").and_then(Value::as_str) {
        Some(kind) if schema.get("enum").is_none() => {
            let mut schema = schema.clone();
            schema["type"] = json!([kind, "null"]);
            schema
        }
        _ if schema.as_object().is_some_and(Map::is_empty) => schema,
        _ if schema["type"].is_array() => schema,
        _ => json!({ "anyOf": [schema, { "type": "null" }] }),
    }
}

/// A name as `rename_all` has it.
fn renamed(name: &str, rule: Option<&String>) -> String {
    let split = |between: char| {
        let mut out = String::new();
        for (n, letter) in name.chars().enumerate() {
            if letter.is_uppercase() && n > 0 {
                out.push(between);
            }
            out.extend(letter.to_lowercase());
        }
        out
    };
    match rule.map(String::as_str) {
        None => name.to_owned(),
        Some("lowercase") => name.to_lowercase(),
        Some("UPPERCASE") => name.to_uppercase(),
        Some("snake_case") => split('_'),
        Some("kebab-case") => split('_').replace('_', "-"),
        Some(other) => panic!("serde's rule {other} is not known here"),
    }
}
