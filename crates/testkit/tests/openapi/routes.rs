//! The router's lines and the handlers behind them: paths, methods, who may, what goes in, what comes out.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Map, Value, json};
use syn::visit::Visit;
use syn::{Expr, FnArg, GenericArgument, Lit, Pat, PathArguments, ReturnType};

use crate::exceptions::{self, Body};
use crate::schema::{Schemas, Way};
use crate::source::{doc, root};

const API: &str = "crates/pillarbox/src/http/api";
const TABLE: &str = "crates/pillarbox/src/access/table.rs";

/// One operation as the router has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operation {
    /// Path below `/api/v1`.
    pub path: String,
    /// Method in lower case.
    pub method: String,
    /// File of the handler.
    pub file: String,
    /// Its name.
    pub handler: String,
    /// Only over the control socket.
    pub local: bool,
}

/// All operations: every `.route("…", get(file::handler))` in the API's files.
pub fn operations() -> Vec<Operation> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(root().join(API)).expect("the API") {
        let path = entry.expect("an entry").path();
        let file = format!("{API}/{}", path.file_name().and_then(|name| name.to_str()).expect("a name"));
        let text = fs::read_to_string(&path).expect("a source");
        let parsed = syn::parse_file(&text).expect("Rust");
        for item in &parsed.items {
            if let syn::Item::Fn(function) = item {
                let mut reader = RouterReader {
                    file: file.clone(),
                    local: function.sig.ident.to_string().contains("local"),
                    found: &mut found,
                };
                reader.visit_item_fn(function);
            }
        }
    }
    found.into_iter().collect()
}

struct RouterReader<'a> {
    file: String,
    local: bool,
    found: &'a mut BTreeSet<Operation>,
}

impl Visit<'_> for RouterReader<'_> {
    fn visit_expr_method_call(&mut self, call: &syn::ExprMethodCall) {
        if call.method == "route"
            && let (Some(Expr::Lit(literal)), Some(methods)) = (call.args.first(), call.args.iter().nth(1))
            && let Lit::Str(path) = &literal.lit
        {
            self.methods(&path.value(), methods);
        }
        syn::visit::visit_expr_method_call(self, call);
    }
}

impl RouterReader<'_> {
    /// `get(a::b).post(a::c)`.
    fn methods(&mut self, path: &str, written: &Expr) {
        let (method, arguments) = match written {
            Expr::MethodCall(call) => {
                self.methods(path, &call.receiver);
                (call.method.to_string(), &call.args)
            }
            Expr::Call(call) => {
                let Expr::Path(function) = &*call.func else { return };
                (function.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default(), &call.args)
            }
            _ => return,
        };
        if method == "layer" {
            return;
        }
        let Some(Expr::Path(handler)) = arguments.first() else { panic!("{path}: {method} without a handler by name") };
        let segments: Vec<String> = handler.path.segments.iter().map(|one| one.ident.to_string()).collect();
        let file = match segments.len() {
            1 => self.file.clone(),
            n => {
                let own = format!("{API}/{}.rs", segments[n - 2]);
                // A few handlers serve pages and probes as well: they are beside the API.
                let beside = format!("{}/{}.rs", API.trim_end_matches("/api"), segments[n - 2]);
                if root().join(&own).exists() { own } else { beside }
            }
        };
        let handler = segments.last().cloned().unwrap_or_default();
        self.found.insert(Operation { path: path.to_owned(), method, file, handler, local: self.local });
    }
}

/// Statuses that a handler and the functions of its file that it calls name.
struct Statuses<'a> {
    schemas: &'a Schemas<'a>,
    file: String,
    seen: BTreeSet<String>,
    found: BTreeSet<u16>,
}

impl Visit<'_> for Statuses<'_> {
    fn visit_path(&mut self, path: &syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        match names.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [.., "StatusCode", status] => self.found.extend(number(status)),
            [.., "Problem", "not_found"] => drop(self.found.insert(404)),
            [.., "Problem", "field" | "fields"] => drop(self.found.insert(422)),
            [.., name] if !self.seen.contains(*name) => {
                if let Some(function) = self.schemas.sources.functions.get(&(self.file.clone(), (*name).to_owned())) {
                    self.seen.insert((*name).to_owned());
                    self.visit_block(&function.block);
                }
            }
            _ => {}
        }
        syn::visit::visit_path(self, path);
    }
}

fn number(status: &str) -> Option<u16> {
    Some(match status {
        "OK" => 200,
        "CREATED" => 201,
        "ACCEPTED" => 202,
        "NO_CONTENT" => 204,
        "BAD_REQUEST" => 400,
        "UNAUTHORIZED" => 401,
        "FORBIDDEN" => 403,
        "NOT_FOUND" => 404,
        "CONFLICT" => 409,
        "GONE" => 410,
        "PAYLOAD_TOO_LARGE" => 413,
        "UNSUPPORTED_MEDIA_TYPE" => 415,
        "UNPROCESSABLE_ENTITY" => 422,
        "TOO_MANY_REQUESTS" => 429,
        "INTERNAL_SERVER_ERROR" => 500,
        "BAD_GATEWAY" => 502,
        "SERVICE_UNAVAILABLE" => 503,
        "GATEWAY_TIMEOUT" => 504,
        "INSUFFICIENT_STORAGE" => 507,
        other => panic!("the status {other} has no number here"),
    })
}

/// What a handler's signature says.
#[derive(Default)]
struct Signature {
    query: Option<Value>,
    body: Option<Value>,
    reads_body: bool,
    statuses: BTreeSet<u16>,
    answer: Option<Value>,
}

impl Operation {
    /// Name in the table of exceptions.
    fn name(&self) -> String {
        let module = self.file.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        format!("{module}::{}", self.handler)
    }

    /// The operation object.
    pub fn describe(&self, schemas: &mut Schemas<'_>) -> Value {
        let function = schemas.sources.functions.get(&(self.file.clone(), self.handler.clone()));
        let function =
            function.unwrap_or_else(|| panic!("there is no handler {} in {}", self.handler, self.file)).clone();
        let mut signature = Signature::default();
        for argument in &function.sig.inputs {
            if let FnArg::Typed(argument) = argument {
                self.argument(schemas, &mut signature, &argument.pat, &argument.ty);
            }
        }
        let mut statuses = Statuses { schemas, file: self.file.clone(), seen: BTreeSet::new(), found: BTreeSet::new() };
        statuses.visit_block(&function.block);
        signature.statuses = statuses.found;
        if let ReturnType::Type(_, written) = &function.sig.output {
            signature.answer = answer(schemas, &self.file, written);
        }
        let text = doc(&function.attrs);
        assert!(!text.is_empty(), "{}: a handler is documented: its words go into the API's document", self.name());
        let summary = text.split(['.', ':', ';', '(']).next().unwrap_or(&text).trim().to_owned();
        let mut operation = json!({
            "operationId": self.name().replace("::", "_"),
            "tags": [self.path.trim_start_matches('/').split('/').next().unwrap_or_default()],
            "summary": summary,
            "description": format!("{text} {}", self.who()),
            "responses": self.responses(schemas, &signature),
        });
        let parameters = self.parameters(schemas, &signature);
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if let Some(body) = self.body(schemas, &signature) {
            operation["requestBody"] = json!({ "required": true, "content": body });
        }
        operation
    }

    /// Who may, as the server's own table has it.
    fn who(&self) -> String {
        let table = fs::read_to_string(root().join(TABLE)).expect("the table of roles");
        let line = format!("(\"{}\", \"{}\", ", self.method.to_uppercase(), self.path);
        let least = table.split_once(&line).and_then(|(_, rest)| rest.split_once("),")).map(|(least, _)| least);
        match least.unwrap_or_else(|| panic!("{} {} is not in {TABLE}", self.method, self.path)) {
            "V" => "Least role: viewer.".into(),
            "O" => "Least role: operator.".into(),
            "A" => "Least role: administrator.".into(),
            "Least::Sender(Viewer)" | "Least::Sender(Viewer" => {
                "Least role: viewer; a sender's key for what is its own.".into()
            }
            "Least::Sender(Operator)" | "Least::Sender(Operator" => {
                "Least role: operator; a sender's key for what is its own.".into()
            }
            "Least::Anyone" => "For whoever has signed in.".into(),
            "Least::Local" => "Over the control socket only.".into(),
            other => panic!("{other} in {TABLE}"),
        }
    }

    fn argument(&self, schemas: &mut Schemas<'_>, signature: &mut Signature, pattern: &Pat, written: &syn::Type) {
        let (name, inner) = outer(written);
        match (name.as_str(), inner) {
            ("Query", Some(inner)) => signature.query = Some(schemas.of(&self.file, &inner, Way::In)),
            ("Json", Some(inner)) => {
                signature.reads_body = true;
                signature.body = Some(schemas.of(&self.file, &inner, Way::In));
            }
            ("Request" | "Body" | "Bytes", _) => signature.reads_body = true,
            ("Admin" | "State" | "Caller" | "Path" | "HeaderMap" | "RawQuery" | "Extension" | "Method" | "Uri", _) => {}
            (other, _) => {
                let _ = pattern;
                panic!("{}: an argument {other} that the document knows nothing of", self.name())
            }
        }
    }

    fn parameters(&self, schemas: &Schemas<'_>, signature: &Signature) -> Vec<Value> {
        let mut parameters = Vec::new();
        for name in self.path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
            let schema = exceptions::parameter(&self.path, name).unwrap_or_else(|| json!({ "type": "string" }));
            parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
        }
        let query = exceptions::query(&self.name()).or_else(|| {
            let reference = signature.query.as_ref()?.get("$ref")?.as_str()?.rsplit('/').next()?.to_owned();
            schemas.named.get(&reference).cloned()
        });
        let required: Vec<Value> =
            query.as_ref().and_then(|query| query["required"].as_array().cloned()).unwrap_or_default();
        for (name, property) in query.iter().flat_map(|query| query["properties"].as_object()).flatten() {
            let mut schema = property.clone();
            // A query has no null.
            if let Some(kind) = schema["type"].as_array().and_then(|all| all.first()).cloned() {
                schema["type"] = kind;
            }
            if let Some(one) = schema["anyOf"].as_array().and_then(|all| all.first()).cloned() {
                schema = one;
            }
            let mut parameter = json!({
                "name": name, "in": "query", "required": required.contains(&json!(name)), "schema": schema,
            });
            if let Some(text) = property["description"].as_str() {
                parameter["description"] = text.into();
                parameter["schema"].as_object_mut().map(|schema| schema.remove("description"));
            }
            parameters.push(parameter);
        }
        parameters.extend(exceptions::headers(&self.name()));
        parameters
    }

    fn body(&self, schemas: &mut Schemas<'_>, signature: &Signature) -> Option<Value> {
        let schema = match exceptions::body(&self.name()) {
            Some(Body::Merged(record, extra)) => schemas.merge(&self.file, record, extra, Way::In),
            Some(Body::Patch(record, extra)) => schemas.patch(&self.file, record, extra),
            Some(Body::Schema(schema)) => schema,
            Some(Body::Content(content)) => return Some(content(schemas, &self.file)),
            None if signature.reads_body => signature
                .body
                .clone()
                .unwrap_or_else(|| panic!("{}: what it reads is to be said in exceptions.rs", self.name())),
            None => return None,
        };
        let mut content = json!({ "application/json": { "schema": schema.clone() } });
        if self.method == "patch" {
            content["application/merge-patch+json"] = json!({ "schema": schema });
        }
        Some(content)
    }

    fn responses(&self, schemas: &mut Schemas<'_>, signature: &Signature) -> Value {
        let mut responses = Map::new();
        let good: Vec<u16> = signature.statuses.iter().copied().filter(|status| *status < 300).collect();
        let status = good.first().copied().unwrap_or(200);
        let content = exceptions::answer(&self.name(), schemas, &self.file)
            .or_else(|| signature.answer.clone().map(|schema| json!({ "application/json": { "schema": schema } })));
        let mut response = json!({ "description": if status == 202 { "Accepted: it is durable." } else { "Done." } });
        if let Some(content) = content.filter(|_| status != 204) {
            response["content"] = content;
        }
        responses.insert(status.to_string(), response);
        let mut bad: BTreeSet<u16> = signature.statuses.iter().copied().filter(|status| *status >= 400).collect();
        bad.extend([401, 408, 429, 500, 503]);
        // Anybody's key may lack the scope.
        bad.insert(403);
        if self.path.contains('{') {
            bad.extend([400, 404]);
        }
        if signature.query.is_some() {
            bad.insert(400);
        }
        if signature.reads_body {
            bad.extend([400, 413, 415, 422]);
        }
        if matches!(self.method.as_str(), "post" | "put" | "patch" | "delete") {
            bad.insert(507);
        }
        bad.extend(exceptions::statuses(&self.name()));
        for status in bad {
            responses.insert(status.to_string(), json!({ "$ref": "#/components/responses/Problem" }));
        }
        if exceptions::headers(&self.name()).iter().any(|header| header["name"] == "If-None-Match") {
            responses.insert("304".into(), json!({ "description": "It is still the same." }));
        }
        responses.into()
    }
}

/// A type's last name, and its first parameter.
fn outer(written: &syn::Type) -> (String, Option<syn::Type>) {
    let syn::Type::Path(path) = written else { return (String::new(), None) };
    let Some(last) = path.path.segments.last() else { return (String::new(), None) };
    let inner = match &last.arguments {
        PathArguments::AngleBracketed(list) => {
            list.args.iter().find_map(|one| if let GenericArgument::Type(one) = one { Some(one.clone()) } else { None })
        }
        _ => None,
    };
    (last.ident.to_string(), inner)
}

/// The schema of what a handler answers; `None` if it has no JSON body.
fn answer(schemas: &mut Schemas<'_>, file: &str, written: &syn::Type) -> Option<Value> {
    if let syn::Type::Tuple(tuple) = written {
        return tuple.elems.iter().find_map(|one| answer(schemas, file, one));
    }
    match outer(written) {
        (name, Some(inner)) if name == "Result" => answer(schemas, file, &inner),
        (name, Some(inner)) if name == "Json" => Some(schemas.of(file, &inner, Way::Out)),
        _ => None,
    }
}
