//! Interned texts: counted, found again, given back.

use super::Interner;

#[test]
fn strings_live_as_long_as_they_have_users() {
    let mut interner = Interner::new();
    let a = interner.intern("a");
    let b = interner.intern("b");
    assert_ne!(a, b);
    assert_eq!(interner.intern("a"), a);
    assert_eq!((interner.text(a), interner.lookup("b"), interner.len()), ("a", Some(b), 2));
    assert!(!interner.release(a), "one user is left");
    assert!(interner.release(a));
    assert_eq!((interner.lookup("a"), interner.len()), (None, 1));
    assert_eq!(interner.intern("c"), a, "free numbers are used again");
    assert!(interner.release(b) && interner.release(a));
    assert!(interner.is_empty());
}
