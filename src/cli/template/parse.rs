//! The text of a template as a tree.

use serde_json::Value;

use super::Error;
use super::function::Function;

/// How deep actions and parentheses may be nested.
const MAX_DEPTH: usize = 100;

/// A piece of a template.
#[derive(Debug)]
pub enum Node {
    /// Text as it is.
    Text(String),
    /// `{{pipeline}}`: printed, unless it only sets a variable.
    Print(Pipeline),
    /// `{{if}}`, `{{with}}` and `{{range}}`, with what follows `{{else}}`.
    Block(Block, Pipeline, Vec<Node>, Vec<Node>),
    /// `{{break}}`
    Break,
    /// `{{continue}}`
    Continue,
}

/// What kind of block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// `{{if}}`
    If,
    /// `{{with}}`
    With,
    /// `{{range}}`
    Range,
}

/// Commands, the value of each being the last argument of the next.
#[derive(Debug)]
pub struct Pipeline {
    /// The variables that it sets, and whether they are new.
    pub sets: Vec<String>,
    pub declares: bool,
    pub commands: Vec<Command>,
}

/// A function with its arguments, or one value.
#[derive(Debug)]
pub enum Command {
    Call(Function, Vec<Operand>),
    Value(Operand),
}

/// A value.
#[derive(Debug)]
pub struct Operand {
    pub base: Base,
    /// The fields that are followed from it.
    pub fields: Vec<String>,
}

/// Where a value begins.
#[derive(Debug)]
pub enum Base {
    Dot,
    Variable(String),
    Literal(Value),
    Pipeline(Box<Pipeline>),
    Call(Function),
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Field(String),
    Dot,
    Variable(String),
    Word(String),
    Literal(Value),
    Open,
    Close,
    Pipe,
    Comma,
    Declare,
    Assign,
    Space,
}

enum Piece {
    Text(String),
    Action(Vec<Token>),
}

fn wrong<T>(what: impl Into<String>) -> Result<T, Error> {
    Err(Error::Parse { what: what.into() })
}

/// Parses a template.
pub fn parse(text: &str) -> Result<Vec<Node>, Error> {
    let pieces = pieces(text)?;
    let mut parser = Parser { pieces: pieces.into_iter(), variables: vec!["$".to_owned()], depth: 0 };
    match parser.nodes()? {
        (nodes, None) => Ok(nodes),
        (_, Some(Ending::End)) => wrong("unexpected {{end}}"),
        (_, Some(Ending::Else(_))) => wrong("unexpected {{else}}"),
    }
}

/// Cuts the text into what is between braces and what is not, and trims where a `-` says so.
fn pieces(text: &str) -> Result<Vec<Piece>, Error> {
    let (mut pieces, mut rest, mut trim) = (Vec::new(), text, false);
    loop {
        let (mut before, after) = match rest.split_once("{{") {
            Some((before, after)) => (before, Some(after)),
            None => (rest, None),
        };
        if trim {
            before = before.trim_start();
        }
        let Some(mut action) = after else {
            pieces.push(Piece::Text(before.to_owned()));
            return Ok(pieces);
        };
        if action.starts_with('-') && action[1..].starts_with(char::is_whitespace) {
            action = &action[1..];
            before = before.trim_end();
        }
        pieces.push(Piece::Text(before.to_owned()));
        let (tokens, after, trims) = tokens(action)?;
        pieces.extend(tokens.map(Piece::Action));
        (rest, trim) = (after, trims);
    }
}

/// The tokens of an action, what follows it, and whether space is trimmed there; no tokens of a comment.
fn tokens(text: &str) -> Result<(Option<Vec<Token>>, &str, bool), Error> {
    if let Some(comment) = text.trim_start().strip_prefix("/*") {
        let Some((_, after)) = comment.split_once("*/") else { return wrong("unclosed comment") };
        return match closing(after) {
            Some((after, trims)) => Ok((None, after, trims)),
            None => wrong("comment ends before closing delimiter"),
        };
    }
    let (mut tokens, mut rest) = (Vec::new(), text);
    loop {
        if let Some((after, trims)) = closing(rest) {
            return Ok((Some(tokens), after, trims));
        }
        let Some(first) = rest.chars().next() else { return wrong("unclosed action") };
        let (token, after) = token(first, rest)?;
        tokens.push(token);
        rest = after;
    }
}

/// The end of an action, if it is here.
fn closing(text: &str) -> Option<(&str, bool)> {
    if let Some(after) = text.strip_prefix("}}") {
        return Some((after, false));
    }
    let trimmed = text.trim_start();
    let trims = trimmed.len() < text.len();
    trimmed.strip_prefix("-}}").filter(|_| trims).map(|after| (after, true))
}

fn token(first: char, text: &str) -> Result<(Token, &str), Error> {
    let simple = |token, length| Ok((token, &text[length..]));
    match first {
        c if c.is_whitespace() => Ok((Token::Space, text.trim_start_matches(|c: char| c.is_whitespace()))),
        '(' => simple(Token::Open, 1),
        ')' => simple(Token::Close, 1),
        '|' => simple(Token::Pipe, 1),
        ',' => simple(Token::Comma, 1),
        '=' => simple(Token::Assign, 1),
        ':' if text.starts_with(":=") => simple(Token::Declare, 2),
        '"' => string(text),
        '`' => match text[1..].split_once('`') {
            Some((raw, after)) => Ok((Token::Literal(raw.into()), after)),
            None => wrong("unterminated raw quoted string"),
        },
        '.' => match word(&text[1..]) {
            ("", after) => Ok((Token::Dot, after)),
            (name, after) => Ok((Token::Field(name.to_owned()), after)),
        },
        '$' => {
            let (name, after) = word(&text[1..]);
            Ok((Token::Variable(format!("${name}")), after))
        }
        c if c.is_ascii_digit() || matches!(c, '-' | '+') => number(text),
        c if c.is_alphabetic() || c == '_' => {
            let (name, after) = word(text);
            Ok((literal(name).map_or_else(|| Token::Word(name.to_owned()), Token::Literal), after))
        }
        other => wrong(format!("unexpected {other:?} in action")),
    }
}

fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len()))
}

fn literal(name: &str) -> Option<Value> {
    match name {
        "true" => Some(true.into()),
        "false" => Some(false.into()),
        "nil" => Some(Value::Null),
        _ => None,
    }
}

/// A quoted string, with Go's escapes as far as JSON has them too.
fn string(text: &str) -> Result<(Token, &str), Error> {
    let mut escaped = false;
    let end = text[1..].find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    let Some(end) = end else { return wrong("unterminated quoted string") };
    let (quoted, after) = text.split_at(end + 2);
    // The unescaping before has made tabs and newlines of those escapes.
    let quoted = quoted.replace('\t', "\\t").replace('\n', "\\n");
    match serde_json::from_str::<Value>(&quoted) {
        Ok(value) => Ok((Token::Literal(value), after)),
        Err(_) => wrong(format!("bad character constant or escape in {quoted}")),
    }
}

fn number(text: &str) -> Result<(Token, &str), Error> {
    let end = text[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '.').map_or(text.len(), |end| end + 1);
    let (digits, after) = text.split_at(end);
    let whole = digits.trim_start_matches('+').parse::<i64>().map(Value::from);
    match whole.or_else(|_| digits.parse::<f64>().map(Value::from)) {
        Ok(value) if !value.is_null() => Ok((Token::Literal(value), after)),
        _ => wrong(format!("bad number syntax: {digits:?}")),
    }
}

/// What ends a list of nodes.
enum Ending {
    End,
    /// With the tokens of an `else if` or `else with`.
    Else(Vec<Token>),
}

struct Parser<I> {
    pieces: I,
    variables: Vec<String>,
    depth: usize,
}

impl<I: Iterator<Item = Piece>> Parser<I> {
    fn nodes(&mut self) -> Result<(Vec<Node>, Option<Ending>), Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return wrong("nested too deep");
        }
        let mut nodes = Vec::new();
        let ending = loop {
            match self.pieces.next() {
                None => break None,
                Some(Piece::Text(text)) => nodes.push(Node::Text(text)),
                Some(Piece::Action(tokens)) => match self.action(tokens)? {
                    Ok(node) => nodes.push(node),
                    Err(ending) => break Some(ending),
                },
            }
        };
        self.depth -= 1;
        Ok((nodes, ending))
    }

    /// One action: a node, or the end of those before it.
    fn action(&mut self, tokens: Vec<Token>) -> Result<Result<Node, Ending>, Error> {
        let tokens = trimmed(tokens);
        let keyword = if let Some(Token::Word(word)) = tokens.first() { word.clone() } else { String::new() };
        let rest = || tokens.iter().skip(1).cloned().collect::<Vec<_>>();
        Ok(match keyword.as_str() {
            "end" => Err(Ending::End),
            "else" => Err(Ending::Else(trimmed(rest()))),
            "break" => Ok(Node::Break),
            "continue" => Ok(Node::Continue),
            "if" => Ok(self.block(Block::If, rest())?),
            "with" => Ok(self.block(Block::With, rest())?),
            "range" => Ok(self.block(Block::Range, rest())?),
            "template" | "define" | "block" => return wrong(format!("{{{{{keyword}}}}} is not offered")),
            _ => Ok(Node::Print(self.pipeline(&tokens, false)?)),
        })
    }

    fn block(&mut self, kind: Block, tokens: Vec<Token>) -> Result<Node, Error> {
        let known = self.variables.len();
        let pipeline = self.pipeline(&tokens, kind == Block::Range)?;
        let (body, ending) = self.nodes()?;
        let otherwise = match ending {
            None => return wrong("unexpected EOF"),
            Some(Ending::End) => Vec::new(),
            Some(Ending::Else(tokens)) if tokens.is_empty() => match self.nodes()? {
                (nodes, Some(Ending::End)) => nodes,
                (_, None) => return wrong("unexpected EOF"),
                (_, Some(Ending::Else(_))) => return wrong("expected end; found {{else}}"),
            },
            // `else if` is an `if` in the `else`, with one `end` for both.
            Some(Ending::Else(tokens)) => match tokens.first() {
                Some(Token::Word(word)) if word == "if" || word == "with" => {
                    let kind = if word == "if" { Block::If } else { Block::With };
                    self.depth += 1;
                    let node = self.block(kind, tokens[1..].to_vec())?;
                    self.depth -= 1;
                    vec![node]
                }
                _ => return wrong("unexpected token after {{else"),
            },
        };
        self.variables.truncate(known);
        Ok(Node::Block(kind, pipeline, body, otherwise))
    }

    fn pipeline(&mut self, tokens: &[Token], range: bool) -> Result<Pipeline, Error> {
        let at = tokens.iter().position(|token| matches!(token, Token::Declare | Token::Assign));
        let (mut sets, mut declares, mut value) = (Vec::new(), false, tokens);
        if let Some(at) = at {
            declares = tokens[at] == Token::Declare;
            for token in tokens[..at].iter().filter(|token| !matches!(token, Token::Space | Token::Comma)) {
                let Token::Variable(name) = token else { return wrong("only variables can be set") };
                sets.push(name.clone());
            }
            if sets.is_empty() || sets.len() > if range { 2 } else { 1 } {
                return wrong("too many declarations in command");
            }
            value = &tokens[at + 1..];
        }
        let commands = self.commands(value)?;
        if declares {
            self.variables.extend(sets.iter().cloned());
        }
        if let Some(unknown) = sets.iter().find(|name| !self.variables.contains(name)) {
            return wrong(format!("undefined variable {unknown:?}"));
        }
        Ok(Pipeline { sets, declares, commands })
    }

    fn commands(&mut self, tokens: &[Token]) -> Result<Vec<Command>, Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return wrong("nested too deep");
        }
        let (mut commands, mut depth, mut start) = (Vec::new(), 0usize, 0);
        for (at, token) in tokens.iter().enumerate() {
            match token {
                Token::Open => depth += 1,
                Token::Close => depth = depth.checked_sub(1).ok_or(()).or_else(|()| wrong("unexpected right paren"))?,
                Token::Pipe if depth == 0 => {
                    commands.push(self.command(&tokens[start..at])?);
                    start = at + 1;
                }
                _ => {}
            }
        }
        if depth > 0 {
            return wrong("unclosed left paren");
        }
        commands.push(self.command(&tokens[start..])?);
        self.depth -= 1;
        Ok(commands)
    }

    fn command(&mut self, tokens: &[Token]) -> Result<Command, Error> {
        let mut operands = self.operands(tokens)?;
        if operands.is_empty() {
            return wrong("missing value for command");
        }
        let first = operands.remove(0);
        match first {
            Operand { base: Base::Call(function), fields } if fields.is_empty() => {
                Ok(Command::Call(function, operands))
            }
            value if operands.is_empty() => Ok(Command::Value(value)),
            _ => wrong("can't give argument to non-function"),
        }
    }

    fn operands(&mut self, tokens: &[Token]) -> Result<Vec<Operand>, Error> {
        let mut operands: Vec<Operand> = Vec::new();
        let (mut at, mut apart) = (0, true);
        while let Some(token) = tokens.get(at) {
            at += 1;
            let base = match token {
                Token::Space => {
                    apart = true;
                    continue;
                }
                Token::Field(name) => match operands.last_mut() {
                    Some(before) if !apart => {
                        before.fields.push(name.clone());
                        continue;
                    }
                    _ => {
                        operands.push(Operand { base: Base::Dot, fields: vec![name.clone()] });
                        apart = false;
                        continue;
                    }
                },
                Token::Dot => Base::Dot,
                Token::Variable(name) if self.variables.contains(name) => Base::Variable(name.clone()),
                Token::Variable(name) => return wrong(format!("undefined variable {name:?}")),
                Token::Literal(value) => Base::Literal(value.clone()),
                Token::Word(name) => match Function::named(name) {
                    Some(function) => Base::Call(function),
                    None => return wrong(format!("function {name:?} not defined")),
                },
                Token::Open => {
                    let end = at + matching(&tokens[at..]);
                    let inner = self.commands(&tokens[at..end])?;
                    at = end + 1;
                    Base::Pipeline(Box::new(Pipeline { sets: Vec::new(), declares: false, commands: inner }))
                }
                other => return wrong(format!("unexpected {other:?} in operand")),
            };
            if !apart {
                return wrong("operands must be separated by spaces");
            }
            operands.push(Operand { base, fields: Vec::new() });
            apart = false;
        }
        Ok(operands)
    }
}

/// Where the parenthesis that was opened before `tokens` is closed; it is known to be.
fn matching(tokens: &[Token]) -> usize {
    let mut depth = 1;
    let closes = |token: &Token| {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth -= 1,
            _ => {}
        }
        depth == 0
    };
    tokens.iter().position(closes).unwrap_or(tokens.len())
}

fn trimmed(tokens: Vec<Token>) -> Vec<Token> {
    let start = tokens.iter().position(|token| *token != Token::Space).unwrap_or(tokens.len());
    let end = tokens.iter().rposition(|token| *token != Token::Space).map_or(start, |end| end + 1);
    tokens[start..end].to_vec()
}
