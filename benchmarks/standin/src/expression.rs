//! DynamoDB's condition and update expressions, and the parts of them that PartiQL shares: text to tree.
//!
//! Grammar: docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.OperatorsAndFunctions.html

use crate::json::Value;
use std::borrow::Cow;

/// An error as the service names it.
#[derive(Debug)]
pub struct Failure {
    pub code: &'static str,
    pub message: String,
    /// The item that was in the way, as JSON, where the caller asked for it.
    pub item: Option<String>,
}

pub type Fallible<T> = Result<T, Failure>;

pub fn invalid<T>(message: impl Into<String>) -> Fallible<T> {
    Err(Failure { code: "ValidationException", message: message.into(), item: None })
}

pub type Path<'a> = Vec<&'a str>;

pub enum Operand<'a> {
    Path(Path<'a>),
    Value(Cow<'a, Value>),
    Size(Path<'a>),
    IfNotExists(Path<'a>, Box<Operand<'a>>),
    Sum(Box<Operand<'a>>, Box<Operand<'a>>),
    Difference(Box<Operand<'a>>, Box<Operand<'a>>),
}

pub enum Condition<'a> {
    Or(Box<Condition<'a>>, Box<Condition<'a>>),
    And(Box<Condition<'a>>, Box<Condition<'a>>),
    Not(Box<Condition<'a>>),
    Compare(Operand<'a>, &'a str, Operand<'a>),
    Between(Operand<'a>, Operand<'a>, Operand<'a>),
    In(Operand<'a>, Vec<Operand<'a>>),
    Exists(Path<'a>),
    NotExists(Path<'a>),
    BeginsWith(Operand<'a>, Operand<'a>),
    Contains(Operand<'a>, Operand<'a>),
}

pub enum Action<'a> {
    Set(Path<'a>, Operand<'a>),
    Remove(Path<'a>),
    Add(Path<'a>, Operand<'a>),
}

impl<'a> Action<'a> {
    pub fn path(&self) -> &Path<'a> {
        match self {
            Action::Set(path, _) | Action::Remove(path) | Action::Add(path, _) => path,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    Word(&'a str),
    Symbol(&'a str),
    Text(&'a str),
    Quoted(&'a str),
}

/// Where `#name`, `:value` and `?` get their meaning.
pub enum Binding<'a> {
    Placeholders(&'a Placeholders<'a>),
    Parameters(&'a [Value], usize),
}

/// Names and values of one request; each must be used by one of its expressions.
pub struct Placeholders<'a> {
    names: Vec<(&'a str, &'a Value, std::cell::Cell<bool>)>,
    values: Vec<(&'a str, &'a Value, std::cell::Cell<bool>)>,
}

impl<'a> Placeholders<'a> {
    pub fn of(request: &'a Value) -> Placeholders<'a> {
        let list = |key| request.pairs(key).iter().map(|(name, value)| (name.as_str(), value, false.into())).collect();
        Placeholders { names: list("ExpressionAttributeNames"), values: list("ExpressionAttributeValues") }
    }

    fn name(&self, word: &'a str) -> Fallible<&'a str> {
        if !word.starts_with('#') {
            return Ok(word);
        }
        for (name, value, used) in &self.names {
            if *name == word {
                used.set(true);
                return Ok(value.as_text().unwrap_or(""));
            }
        }
        invalid(format!(
            "Invalid expression: An expression attribute name used in the document path is not defined; attribute name: {}",
            word
        ))
    }

    fn value(&self, word: &str) -> Fallible<&'a Value> {
        for (name, value, used) in &self.values {
            if *name == word {
                used.set(true);
                return Ok(value);
            }
        }
        invalid(format!(
            "Invalid expression: An expression attribute value used in expression is not defined; attribute value: {}",
            word
        ))
    }

    pub fn all_used(&self) -> Fallible<()> {
        for (list, kind) in [(&self.names, "Names"), (&self.values, "Values")] {
            let unused: Vec<&str> = list.iter().filter(|one| !one.2.get()).map(|one| one.0).collect();
            if !unused.is_empty() {
                return invalid(format!(
                    "Value provided in ExpressionAttribute{} unused in expressions: keys: {{{}}}",
                    kind,
                    unused.join(", ")
                ));
            }
        }
        Ok(())
    }
}

pub fn tokens(text: &str) -> Fallible<Vec<Token<'_>>> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(64);
    let mut at = 0;
    while at < bytes.len() {
        let from = at;
        match bytes[at] {
            byte if byte.is_ascii_whitespace() => at += 1,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'#' | b':' => {
                while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || matches!(bytes[at], b'_' | b'#' | b':')) {
                    at += 1;
                }
                out.push(Token::Word(&text[from..at]));
            }
            quote @ (b'\'' | b'"') => {
                let Some(length) = text[at + 1..].find(quote as char) else { return invalid("a quote without an end") };
                let inner = &text[at + 1..at + 1 + length];
                out.push(if quote == b'"' { Token::Quoted(inner) } else { Token::Text(inner) });
                at += length + 2;
            }
            b'<' | b'>' if matches!(bytes.get(at + 1), Some(b'=' | b'>')) => {
                at += 2;
                out.push(Token::Symbol(&text[from..at]));
            }
            b'(' | b')' | b',' | b'.' | b'=' | b'<' | b'>' | b'+' | b'-' | b'?' | b'*' | b'{' | b'}' => {
                at += 1;
                out.push(Token::Symbol(&text[from..at]));
            }
            _ => return invalid(format!("Invalid expression: Syntax error at {:?}", &text[from..])),
        }
    }
    Ok(out)
}

pub struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    binding: Binding<'a>,
}

impl<'a> Parser<'a> {
    pub fn new(text: &'a str, binding: Binding<'a>) -> Fallible<Parser<'a>> {
        Ok(Parser { tokens: tokens(text)?, at: 0, binding })
    }

    pub fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    pub fn next(&mut self) -> Fallible<Token<'a>> {
        let Some(token) = self.peek() else { return invalid("Invalid expression: Syntax error; it ends too early") };
        self.at += 1;
        Ok(token)
    }

    pub fn take(&mut self, symbol: &str) -> bool {
        let found = self.peek() == Some(Token::Symbol(symbol));
        self.at += usize::from(found);
        found
    }

    pub fn keyword(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(one)) if one.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    pub fn expect(&mut self, symbol: &str) -> Fallible<()> {
        if self.take(symbol) {
            return Ok(());
        }
        invalid(format!("Invalid expression: Syntax error; expected {:?}, found {:?}", symbol, self.peek()))
    }

    pub fn end(&self) -> Fallible<()> {
        match self.peek() {
            None => Ok(()),
            Some(token) => invalid(format!("Invalid expression: Syntax error; token: {:?}", token)),
        }
    }

    /// Every parameter of a statement has to have its `?`.
    pub fn parameters_used(&self) -> Fallible<()> {
        match self.binding {
            Binding::Parameters(values, used) if used != values.len() => {
                invalid("Number of parameters in request and statement don't match.")
            }
            _ => Ok(()),
        }
    }

    pub fn condition(&mut self) -> Fallible<Condition<'a>> {
        let mut left = self.conjunction()?;
        while self.keyword("OR") {
            left = Condition::Or(Box::new(left), Box::new(self.conjunction()?));
        }
        Ok(left)
    }

    fn conjunction(&mut self) -> Fallible<Condition<'a>> {
        let mut left = self.negation()?;
        while self.keyword("AND") {
            left = Condition::And(Box::new(left), Box::new(self.negation()?));
        }
        Ok(left)
    }

    fn negation(&mut self) -> Fallible<Condition<'a>> {
        if self.keyword("NOT") {
            return Ok(Condition::Not(Box::new(self.negation()?)));
        }
        if !self.take("(") {
            return self.comparison();
        }
        let from = self.at;
        let inner = self.condition()?;
        if self.peek() == Some(Token::Symbol(")")) && self.wraps(from, self.at) {
            return invalid("Invalid expression: The expression has redundant parentheses;");
        }
        self.expect(")")?;
        Ok(inner)
    }

    /// Whether one pair of parentheses encloses all tokens of the range.
    fn wraps(&self, from: usize, to: usize) -> bool {
        let mut depth = 0;
        for at in from..to {
            match self.tokens[at] {
                Token::Symbol("(") => depth += 1,
                Token::Symbol(")") => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return at > from && at + 1 == to;
            }
        }
        false
    }

    fn comparison(&mut self) -> Fallible<Condition<'a>> {
        if let Some(found) = self.function()? {
            return Ok(found);
        }
        let left = self.operand()?;
        if self.keyword("BETWEEN") {
            let low = self.operand()?;
            if !self.keyword("AND") {
                return invalid("Invalid expression: Syntax error; BETWEEN without AND");
            }
            return Ok(Condition::Between(left, low, self.operand()?));
        }
        if self.keyword("IN") {
            return Ok(Condition::In(left, self.operands()?));
        }
        if self.keyword("IS") {
            return self.missing(left);
        }
        match self.next()? {
            Token::Symbol(sign @ ("=" | "<>" | "<" | "<=" | ">" | ">=")) => {
                Ok(Condition::Compare(left, sign, self.operand()?))
            }
            token => invalid(format!("Invalid expression: Syntax error; token: {:?}", token)),
        }
    }

    fn missing(&mut self, operand: Operand<'a>) -> Fallible<Condition<'a>> {
        let not = self.keyword("NOT");
        match operand {
            Operand::Path(path) if self.statement() && self.keyword("MISSING") => {
                Ok(if not { Condition::Exists(path) } else { Condition::NotExists(path) })
            }
            _ => invalid("Invalid expression: Syntax error; IS takes MISSING"),
        }
    }

    fn statement(&self) -> bool {
        matches!(self.binding, Binding::Parameters(..))
    }

    fn function(&mut self) -> Fallible<Option<Condition<'a>>> {
        let (Some(Token::Word(name)), Some(Token::Symbol("("))) = (self.peek(), self.tokens.get(self.at + 1)) else {
            return Ok(None);
        };
        // PartiQL has MISSING in place of these two.
        let known = match name {
            "attribute_exists" | "attribute_not_exists" => !self.statement(),
            "begins_with" | "contains" => true,
            "size" => return Ok(None),
            _ => false,
        };
        if !known {
            return invalid(format!("Invalid expression: Invalid function name; function: {}", name));
        }
        self.at += 2;
        let found = match name {
            "attribute_exists" => Condition::Exists(self.path()?),
            "attribute_not_exists" => Condition::NotExists(self.path()?),
            _ => {
                let left = self.operand()?;
                self.expect(",")?;
                let right = self.operand()?;
                if name == "contains" { Condition::Contains(left, right) } else { Condition::BeginsWith(left, right) }
            }
        };
        self.expect(")")?;
        Ok(Some(found))
    }

    fn operands(&mut self) -> Fallible<Vec<Operand<'a>>> {
        self.expect("(")?;
        let mut out = vec![self.operand()?];
        while self.take(",") {
            out.push(self.operand()?);
        }
        self.expect(")")?;
        Ok(out)
    }

    pub fn operand(&mut self) -> Fallible<Operand<'a>> {
        match self.next()? {
            Token::Word("size") if self.take("(") => {
                let path = self.path()?;
                self.expect(")")?;
                Ok(Operand::Size(path))
            }
            Token::Symbol("?") => self.parameter(),
            Token::Text(text) if self.statement() => Ok(literal("S", text)),
            Token::Symbol("-") if self.statement() => match self.next()? {
                Token::Word(word) => Ok(literal("N", &format!("-{}", word))),
                token => invalid(format!("Syntax error; token: {:?}", token)),
            },
            Token::Word(word) if self.statement() && word.starts_with(|one: char| one.is_ascii_digit()) => {
                Ok(literal("N", word))
            }
            Token::Word(word) if word.starts_with(':') => match &self.binding {
                Binding::Placeholders(bound) => Ok(Operand::Value(Cow::Borrowed(bound.value(word)?))),
                Binding::Parameters(..) => invalid(format!("Syntax error; token: {}", word)),
            },
            _ => {
                self.at -= 1;
                Ok(Operand::Path(self.path()?))
            }
        }
    }

    fn parameter(&mut self) -> Fallible<Operand<'a>> {
        let Binding::Parameters(values, used) = &mut self.binding else { return invalid("Syntax error; token: ?") };
        let Some(value) = values.get(*used) else {
            return invalid("Number of parameters in request and statement don't match.");
        };
        *used += 1;
        Ok(Operand::Value(Cow::Borrowed(value)))
    }

    pub fn path(&mut self) -> Fallible<Path<'a>> {
        let mut out = Vec::with_capacity(1);
        loop {
            out.push(match (self.next()?, &self.binding) {
                (Token::Word(word), Binding::Placeholders(bound)) if !word.starts_with(':') => bound.name(word)?,
                (Token::Word(word), Binding::Parameters(..)) | (Token::Quoted(word), Binding::Parameters(..)) => word,
                (token, _) => return invalid(format!("Invalid expression: Syntax error; token: {:?}", token)),
            });
            if !self.take(".") {
                return Ok(out);
            }
        }
    }

    /// What stands right of a SET's `=`.
    pub fn value_of_set(&mut self) -> Fallible<Operand<'a>> {
        let left = self.term()?;
        if self.take("+") {
            return Ok(Operand::Sum(Box::new(left), Box::new(self.term()?)));
        }
        if self.take("-") {
            return Ok(Operand::Difference(Box::new(left), Box::new(self.term()?)));
        }
        Ok(left)
    }

    fn term(&mut self) -> Fallible<Operand<'a>> {
        // PartiQL's UPDATE documents list_append, set_add and set_delete only.
        if self.statement() || !self.keyword("if_not_exists") {
            return self.operand();
        }
        self.expect("(")?;
        let path = self.path()?;
        self.expect(",")?;
        let other = self.operand()?;
        self.expect(")")?;
        Ok(Operand::IfNotExists(path, Box::new(other)))
    }

    /// An UpdateExpression: each clause at most once, its actions separated by commas.
    pub fn update(&mut self) -> Fallible<Vec<Action<'a>>> {
        let mut actions = Vec::new();
        let mut seen = Vec::new();
        while self.peek().is_some() {
            let clause = match self.next()? {
                Token::Word(word) => word.to_ascii_uppercase(),
                token => return invalid(format!("Invalid UpdateExpression: Syntax error; token: {:?}", token)),
            };
            if seen.contains(&clause) {
                return invalid(format!(
                    "Invalid UpdateExpression: The \"{}\" section can only be used once in an update expression;",
                    clause
                ));
            }
            loop {
                actions.push(self.action(&clause)?);
                if !self.take(",") {
                    break;
                }
            }
            seen.push(clause);
        }
        Ok(actions)
    }

    pub fn action(&mut self, clause: &str) -> Fallible<Action<'a>> {
        let known = matches!(clause, "SET" | "REMOVE" | "ADD");
        if !known {
            return invalid(format!("Invalid UpdateExpression: Syntax error; token: {:?}", clause));
        }
        let path = self.path()?;
        match clause {
            "SET" => {
                self.expect("=")?;
                Ok(Action::Set(path, self.value_of_set()?))
            }
            "ADD" => Ok(Action::Add(path, self.operand()?)),
            _ => Ok(Action::Remove(path)),
        }
    }
}

fn literal<'a>(kind: &str, text: &str) -> Operand<'a> {
    Operand::Value(Cow::Owned(Value::Map(vec![(kind.to_string(), Value::Text(text.to_string()))])))
}
