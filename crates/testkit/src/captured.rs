//! A writer whose text can be looked at afterwards.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

/// Keeps what is written. Clones are one writer.
#[derive(Clone, Default)]
pub struct Captured(Rc<RefCell<Vec<u8>>>);

impl Captured {
    /// What was written so far.
    ///
    /// # Panics
    /// Where it is no UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).expect("text is UTF-8")
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
