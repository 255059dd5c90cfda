//! Text to policies: YAML or JSON, several documents a file. Errors name line, field path and the fix.
//!
//! A text goes down these rooms, each of which reads what the one before it left:
//! documents (where one ends) -> tree (values with lines) -> objects (kind, name) -> rules -> entries -> peers, ports, http.
//!
//! One walk makes both results: what can't be read is complained about and its closed form takes its place, so the policy
//! of a text without errors is the policy as written, and that of any other text is its closed form.
//!
//! INVARIANT: nothing that was written vanishes: a field is enforced, or the object is refused by name.

mod diagnostic;
mod documents;
mod entries;
mod http;
mod lists;
mod objects;
mod peers;
mod place;
mod ports;
mod print;
mod rules;
mod scope;
mod selectors;
mod tree;

pub use diagnostic::{Diagnostic, Severity};
pub use documents::TEXT_BYTES_MAX;

use crate::automata::Patterns;
use crate::rule::{ObjectName, Overrun, Policy};
use diagnostic::{Complaints, Unreadable};

/// What a text says. The order is that of the documents.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    pub objects: Vec<Object>,
}

/// One policy object, judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub name: ObjectName,
    /// The document's own text: what is kept as the last accepted one. Parsing it alone gives this object again.
    pub text: String,
    pub judged: Judged,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Judged {
    /// Enforced as written. Diagnostics are warnings.
    Accepted { policy: Policy, diagnostics: Vec<Diagnostic> },
    /// Refused: the last accepted text of the same object stays in force; without one, `closed` does.
    Refused { closed: Policy, diagnostics: Vec<Diagnostic> },
}

/// Reads every policy document of a text, and compiles its patterns. Documents of other kinds are an error by name.
///
/// # Errors
/// The text is not YAML or JSON, or a document has no kind or name: the file changes nothing.
pub fn parse(text: &str) -> Result<Parsed, Vec<Diagnostic>> {
    let mut parsed = read(text)?;
    let mut patterns = Patterns::default();
    parsed.objects.iter_mut().for_each(|object| object.judged.compile(&mut patterns));
    Ok(parsed)
}

/// As [`parse`], quickly: what is accepted is not compiled yet, and may turn out to be over its budget.
///
/// # Errors
/// As [`parse`].
pub fn read(text: &str) -> Result<Parsed, Vec<Diagnostic>> {
    let documents = documents::split(text).map_err(|error| vec![error])?;
    let mut objects = Vec::new();
    let mut errors = Vec::new();
    for document in documents {
        match tree::read(document.text, document.first_line) {
            Err(error) => errors.push(error),
            Ok(None) => {}
            Ok(Some(node)) => match document_objects(&node, document.text) {
                Ok(some) => objects.extend(some),
                Err(diagnostics) => errors.extend(diagnostics),
            },
        }
    }
    match errors.is_empty() {
        true => Ok(Parsed { objects }),
        false => Err(errors),
    }
}

impl Judged {
    /// Compiles what is accepted if that takes no more than `bytes_max`, and says whether it is done: what was not accepted is.
    #[must_use]
    pub fn compile_small(&mut self, patterns: &mut Patterns, bytes_max: usize) -> bool {
        match self {
            Self::Accepted { policy, .. } => policy.compile_small(patterns, bytes_max),
            Self::Refused { .. } => true,
        }
    }

    /// Compiles what is accepted. What costs more than the budget of a policy is refused then.
    pub fn compile(&mut self, patterns: &mut Patterns) {
        let Self::Accepted { policy, diagnostics } = self else { return };
        if let Err(overrun) = policy.compile(patterns) {
            let mut diagnostics = std::mem::take(diagnostics);
            diagnostics.push(over_budget(&overrun));
            *self = Self::Refused { closed: policy.closed(), diagnostics };
        }
    }
}

/// Names the rules that cost most, and what they cost.
fn over_budget(Overrun { unit, cost, limit, rules }: &Overrun) -> Diagnostic {
    let named: Vec<String> = rules.iter().map(|rule| format!("`{rule}`")).collect();
    let field = rules.first().map_or("spec", String::as_str);
    if *unit == "steps" {
        let message = format!(
            "to match one byte of a request, the patterns that can meet in it take more than {limit} steps ({cost} with {})",
            named.join(", ")
        );
        return Diagnostic::error(0, field, message, STEPS_FIX);
    }
    let what = match *unit {
        "states" => "states of patterns",
        _ => "bytes of automata",
    };
    let message = format!(
        "the HTTP rules of the policy need more than {limit} {what} ({cost} when compiling was given up); most by those \
         around {}",
        named.join(", ")
    );
    let fix = "let patterns begin with a literal (`/orders/.*` costs nothing, `/.*orders.*` does), use smaller repetitions, \
               or spread the rules over several policies";
    Diagnostic::error(0, field, message, fix)
}

const STEPS_FIX: &str = "let patterns begin with a literal (`/orders/.*`), or end with one (`/.*/orders`); write `[^/]+` for one segment \
                         instead of `.*`, smaller repetitions, and no `\\b`, `^` or `$` inside";

/// The object of a document, or those of the list that it is. The text of an element is written anew.
fn document_objects(node: &tree::Node, text: &str) -> Result<Vec<Object>, Vec<Diagnostic>> {
    let mut complaints = Complaints::default();
    let items = match lists::items(node, &mut complaints) {
        None => return object(node, text).map(|object| vec![object]),
        Some(Ok(items)) if !complaints.refused() => items,
        Some(Ok(_) | Err(Unreadable)) => return Err(complaints.into_diagnostics()),
    };
    let (mut objects, mut errors) = (Vec::new(), Vec::new());
    for item in items {
        match object(item, &lists::write(item)) {
            Ok(object) => objects.push(object),
            Err(diagnostics) => errors.extend(diagnostics),
        }
    }
    if errors.is_empty() { Ok(objects) } else { Err(errors) }
}

fn object(node: &tree::Node, text: &str) -> Result<Object, Vec<Diagnostic>> {
    let mut complaints = Complaints::default();
    let Ok(policy) = objects::read(node, &mut complaints) else {
        return Err(complaints.into_diagnostics());
    };
    let name = policy.name.clone();
    let judged = match complaints.refused() {
        false => Judged::Accepted { policy, diagnostics: complaints.into_diagnostics() },
        true => Judged::Refused { closed: policy, diagnostics: complaints.into_diagnostics() },
    };
    Ok(Object { name, text: text.to_owned(), judged })
}

#[cfg(test)]
mod tests;
