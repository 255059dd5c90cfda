//! What a look at our things in the kernel comes to: other programs remove some, or change them.

use crate::error::Error;

/// What was found by one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What another program had removed or changed, and is as it should be again.
    pub put_back: Vec<String>,
    /// What is not as it should be, and stays so until somebody, or a later look, mends it.
    pub faults: Vec<Fault>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub severity: Severity,
    pub message: String,
    pub fix: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something is not enforced, or traffic that policy allows does not pass.
    Error,
    Warning,
}

impl Look {
    /// Takes what one part has come to.
    pub(crate) fn add(&mut self, part: Result<Vec<String>, Error>) {
        match part {
            Ok(put_back) => self.put_back.extend(put_back),
            Err(error) => self.faults.push(Fault::of(&error)),
        }
    }
}

impl Fault {
    pub(crate) fn of(error: &Error) -> Self {
        Self {
            severity: Severity::Error,
            message: error.to_string(),
            fix: "remove the cause; it is tried again every second".into(),
        }
    }
}
