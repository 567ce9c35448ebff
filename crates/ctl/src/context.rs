//! What a command sees of the world around it.

use std::io::{Read, Write};

/// Looks a variable of the environment up.
pub type Environment = dyn Fn(&str) -> Option<String>;

/// Surroundings of one run.
pub struct Context {
    /// The environment.
    pub environment: Box<Environment>,
    /// Standard input.
    pub input: Box<dyn Read>,
    /// Standard output.
    pub output: Box<dyn Write>,
    /// Standard error, for warnings; failures are returned instead.
    pub errors: Box<dyn Write>,
}

impl Context {
    /// The process's own.
    pub fn of_process() -> Context {
        Context {
            environment: Box::new(|name| std::env::var(name).ok()),
            input: Box::new(std::io::stdin()),
            output: Box::new(std::io::stdout()),
            errors: Box::new(std::io::stderr()),
        }
    }

    /// Prints a line to standard output.
    pub(crate) fn say(&mut self, line: impl std::fmt::Display) -> anyhow::Result<()> {
        Ok(writeln!(self.output, "{line}")?)
    }

    /// Prints a line to standard error.
    pub(crate) fn warn(&mut self, line: impl std::fmt::Display) -> anyhow::Result<()> {
        Ok(writeln!(self.errors, "{line}")?)
    }
}
