//! One-way messages that nobody handles, so that the log tells of each method once.

use std::cell::RefCell;
use std::collections::HashSet;

/// The methods that were told of.
#[derive(Debug, Default)]
pub(crate) struct Unheard {
    methods: RefCell<HashSet<String>>,
}

impl Unheard {
    /// Whether this is the first message with its method. Of the names that senders invent, some are kept.
    pub(crate) fn is_first(&self, method: &str) -> bool {
        let mut methods = self.methods.borrow_mut();
        methods.len() < MOST && methods.insert(method.to_owned())
    }
}

const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_is_told_of_once_and_no_more_than_some() {
        let unheard = Unheard::default();
        assert!(unheard.is_first("fly"));
        assert!(!unheard.is_first("fly"));
        let told = (0..1000).filter(|number| unheard.is_first(&number.to_string())).count();
        assert_eq!(told, MOST - 1);
    }
}
