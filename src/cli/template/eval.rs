//! What a template comes to for one value.

use serde_json::Value;

use super::parse::{Base, Block, Command, Node, Operand, Pipeline};
use super::{Error, LISTS, MAPS, MAX_OUTPUT, MAX_STEPS};
use crate::cli::output;

/// The text that `nodes` make of `value`; `heading`: of the headings of columns.
pub fn render(nodes: &[Node], value: &Value, heading: bool) -> Result<String, Error> {
    let variables = vec![("$".to_owned(), value.clone())];
    let mut scope = Scope { text: String::new(), variables, heading, steps: 0 };
    scope.nodes(nodes, value)?;
    Ok(scope.text)
}

/// How a list of nodes ended.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Scope {
    text: String,
    variables: Vec<(String, Value)>,
    heading: bool,
    steps: usize,
}

impl Scope {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, Error> {
        for node in nodes {
            self.step()?;
            let flow = self.node(node, dot)?;
            if self.text.len() > MAX_OUTPUT {
                return Err(Error::TooLong);
            }
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn step(&mut self) -> Result<(), Error> {
        self.steps += 1;
        if self.steps > MAX_STEPS { Err(Error::TooManySteps) } else { Ok(()) }
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, Error> {
        match node {
            Node::Text(text) => self.text.push_str(text),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.sets.is_empty() {
                    self.text.push_str(&output::printable(&shown(pipeline, &value)));
                } else {
                    self.set(pipeline, value);
                }
            }
            Node::Block(kind, pipeline, body, otherwise) => {
                let known = self.variables.len();
                let flow = self.block(*kind, pipeline, body, otherwise, dot);
                self.variables.truncate(known);
                return flow;
            }
        }
        Ok(Flow::On)
    }

    fn block(
        &mut self,
        kind: Block,
        pipeline: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, Error> {
        let value = self.pipeline(pipeline, dot)?;
        if kind == Block::Range {
            return self.range(pipeline, &value, body, otherwise, dot);
        }
        if !pipeline.sets.is_empty() {
            self.set(pipeline, value.clone());
        }
        match (truth(&value), kind) {
            (false, _) => self.nodes(otherwise, dot),
            (true, Block::With) => self.nodes(body, &value),
            (true, _) => self.nodes(body, dot),
        }
    }

    fn range(
        &mut self,
        pipeline: &Pipeline,
        value: &Value,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, Error> {
        let items: Vec<(Value, Value)> = match value {
            Value::Array(items) => items.iter().enumerate().map(|(at, item)| (at.into(), item.clone())).collect(),
            Value::Object(map) => map.iter().map(|(key, item)| (key.as_str().into(), item.clone())).collect(),
            Value::Null => Vec::new(),
            other => return Err(Error::Range { what: printed(other) }),
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, item) in items {
            self.step()?;
            let known = self.variables.len();
            match &pipeline.sets[..] {
                [] => {}
                [one] => self.put(one, item.clone(), pipeline.declares),
                [first, second, ..] => {
                    self.put(first, key, pipeline.declares);
                    self.put(second, item.clone(), pipeline.declares);
                }
            }
            let flow = self.nodes(body, &item)?;
            self.variables.truncate(known);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn set(&mut self, pipeline: &Pipeline, value: Value) {
        if let [name] = &pipeline.sets[..] {
            self.put(name, value, pipeline.declares);
        }
    }

    fn put(&mut self, name: &str, value: Value, declares: bool) {
        match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, place)) if !declares => *place = value,
            _ => self.variables.push((name.to_owned(), value)),
        }
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, Error> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(match command {
                Command::Value(operand) if last.is_none() => self.operand(operand, dot)?,
                Command::Value(_) => {
                    return Err(Error::Parse { what: "can't give argument to non-function".to_owned() });
                }
                Command::Call(function, operands) => {
                    let arguments = operands.iter().map(|operand| self.operand(operand, dot));
                    function.call(arguments.chain(last.map(Ok)).collect::<Result<_, _>>()?, self.heading)?
                }
            });
        }
        Ok(last.unwrap_or_default())
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Result<Value, Error> {
        let fields = &operand.fields;
        match &operand.base {
            Base::Dot => follow(dot, fields),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                follow(found.map_or(&Value::Null, |(_, value)| value), fields)
            }
            Base::Literal(value) => follow(value, fields),
            Base::Pipeline(inner) => follow(&self.pipeline(inner, dot)?, fields),
            Base::Call(function) => follow(&function.call(Vec::new(), self.heading)?, fields),
        }
    }
}

/// The field of a field of a value.
fn follow(mut value: &Value, fields: &[String]) -> Result<Value, Error> {
    let mut of_map = false;
    for name in fields {
        value = match value.get(name) {
            Some(field) => field,
            // What Go prints of a map that has no such key; of anything else it is a mistake.
            None if of_map => return Ok(Value::from("<no value>")),
            None => return Err(Error::NoField { field: name.clone() }),
        };
        of_map = MAPS.contains(&name.as_str());
    }
    Ok(value.clone())
}

/// What a pipeline is printed as: a list or a map that is not there is an empty one, as Go's types have it.
fn shown(pipeline: &Pipeline, value: &Value) -> String {
    let field = match &pipeline.commands[..] {
        [Command::Value(operand)] if value.is_null() => operand.fields.last().map_or("", String::as_str),
        _ => "",
    };
    match field {
        list if LISTS.contains(&list) => "[]".to_owned(),
        map if MAPS.contains(&map) => "map[]".to_owned(),
        _ => printed(value),
    }
}

/// Whether Go takes a value for true: it is not empty.
pub fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// A value as Go prints it.
pub fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(printed).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            // What is empty in a map is Go's empty struct: a port, a volume.
            let shown =
                |value: &Value| if *value == Value::Object(<_>::default()) { "{}".to_owned() } else { printed(value) };
            let entries = map.iter().map(|(key, value)| format!("{key}:{}", shown(value)));
            format!("map[{}]", entries.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}
