//! Holds the compiled interface to the recorded facts: every service, message, enum, name, number and type.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test: a panic is its failure")]

use std::collections::BTreeSet;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};
use serde_json::Value;

/// One line per fact, so that a difference names itself.
type Facts = BTreeSet<String>;

fn recorded() -> Facts {
    let json: Value = serde_json::from_str(include_str!("../testdata/cri-v1-1.36.json")).unwrap();
    let mut facts = Facts::from([format!("package {}", text(&json, "package"))]);
    for (service, rpcs) in json["services"].as_object().unwrap() {
        for rpc in rpcs.as_array().unwrap() {
            let stream = rpc["server_stream"].as_bool().unwrap();
            let (name, input, output) = (text(rpc, "name"), text(rpc, "request"), text(rpc, "response"));
            facts.insert(format!("rpc {service}.{name} {input} -> {output} stream={stream}"));
        }
    }
    for (name, values) in json["enums"].as_object().unwrap() {
        for (value, number) in values.as_object().unwrap() {
            facts.insert(format!("enum {name} {value}={number}"));
        }
    }
    for (message, fields) in json["messages"].as_object().unwrap() {
        facts.insert(format!("message {message}"));
        for field in fields.as_array().unwrap() {
            let repeated = field.get("repeated").is_some_and(|set| set.as_bool().unwrap());
            let (name, kind, number) = (text(field, "name"), text(field, "type"), &field["number"]);
            facts.insert(format!("field {message}.{name}={number} {kind} repeated={repeated}"));
        }
    }
    facts
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

fn compiled() -> Facts {
    let set = protox::compile(["proto/runtime/v1/api.proto"], ["proto"]).unwrap();
    let [file] = set.file.as_slice() else { panic!("one file expected") };
    let mut facts = Facts::from([format!("package {}", file.package())]);
    add_services(&mut facts, file);
    for each in &file.enum_type {
        add_enum(&mut facts, each.name(), each);
    }
    for message in &file.message_type {
        add_message(&mut facts, message);
    }
    facts
}

fn add_services(facts: &mut Facts, file: &FileDescriptorProto) {
    for service in &file.service {
        for rpc in &service.method {
            assert!(!rpc.client_streaming(), "{} streams from the client", rpc.name());
            let (input, output) = (short(rpc.input_type()), short(rpc.output_type()));
            let stream = rpc.server_streaming();
            facts.insert(format!(
                "rpc {}.{} {input} -> {output} stream={stream}",
                service.name(),
                rpc.name()
            ));
        }
    }
}

fn add_enum(facts: &mut Facts, name: &str, each: &EnumDescriptorProto) {
    for value in &each.value {
        facts.insert(format!("enum {name} {}={}", value.name(), value.number()));
    }
}

fn add_message(facts: &mut Facts, message: &DescriptorProto) {
    let owner = message.name();
    facts.insert(format!("message {owner}"));
    for each in &message.enum_type {
        add_enum(facts, &format!("{owner}.{}", each.name()), each);
    }
    for field in &message.field {
        let entry = message.nested_type.iter().find(|nested| is_entry_of(nested, field));
        let kind = entry.map_or_else(|| type_name(field), map_name);
        let repeated = field.label() == Label::Repeated && entry.is_none();
        let (name, number) = (field.name(), field.number());
        facts.insert(format!("field {owner}.{name}={number} {kind} repeated={repeated}"));
    }
}

/// A map field is a repeated field of an entry message that the compiler makes up.
fn is_entry_of(nested: &DescriptorProto, field: &FieldDescriptorProto) -> bool {
    let is_entry = nested.options.as_ref().is_some_and(|options| options.map_entry());
    is_entry && field.type_name().ends_with(&format!(".{}", nested.name()))
}

fn map_name(entry: &DescriptorProto) -> String {
    let [key, value] = entry.field.as_slice() else { panic!("{} has no key and value", entry.name()) };
    format!("map<{},{}>", type_name(key), type_name(value))
}

fn type_name(field: &FieldDescriptorProto) -> String {
    let scalar = match field.r#type() {
        Type::Message | Type::Enum => return short(field.type_name()).to_owned(),
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Bool => "bool",
        Type::Int32 => "int32",
        Type::Int64 => "int64",
        Type::Uint32 => "uint32",
        Type::Uint64 => "uint64",
        Type::Double => "double",
        other => panic!("{}: the interface has no field of type {other:?}", field.name()),
    };
    scalar.to_owned()
}

/// `.runtime.v1.Foo` or `.runtime.v1.Foo.Bar` without everything before the last dot.
fn short(full: &str) -> &str {
    full.rsplit('.').next().unwrap()
}

#[test]
fn the_interface_equals_the_recorded_facts() {
    let (recorded, compiled) = (recorded(), compiled());
    let missing: Vec<_> = recorded.difference(&compiled).collect();
    let extra: Vec<_> = compiled.difference(&recorded).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}\nextra: {extra:#?}");
    assert!(recorded.len() > 750, "only {} facts read", recorded.len());
}

/// prost's descriptor types do not know the option, so the text is looked at.
#[test]
fn the_fields_recorded_as_secret_are_marked() {
    let json: Value = serde_json::from_str(include_str!("../testdata/cri-v1-1.36.json")).unwrap();
    let proto = include_str!("../proto/runtime/v1/api.proto");
    let fields = json["messages"].as_object().unwrap().values().flat_map(|fields| fields.as_array().unwrap());
    let secret: Vec<_> = fields.filter(|field| field.get("options").is_some()).collect();
    assert!(!secret.is_empty());
    for field in secret {
        let (kind, name, options) = (text(field, "type"), text(field, "name"), text(field, "options"));
        let line = format!("{kind} {name} = {} {options};", field["number"]);
        assert!(proto.contains(&line), "{line}");
    }
}
