//! Drops large change lists off the path: after a commit that changed 25,000 rows the next one, which may
//! be a single endpoint, must not pay for freeing their old values (3–70 ms were seen).

use std::sync::mpsc::{Sender, channel};
use std::thread::Builder;

/// A thread that drops what it is sent. It starts with the first large list and ends with the owner.
#[derive(Default)]
pub(crate) struct Rubbish(Option<Sender<Box<dyn Send>>>);

impl Rubbish {
    /// Empties a list: at once if it is small, elsewhere if it is large.
    pub(crate) fn clear<T: Send + 'static>(&mut self, list: &mut Vec<T>) {
        if list.len() < LARGE {
            list.clear();
            return;
        }
        let list = std::mem::take(list);
        if self.0.is_none() {
            let (sender, receiver) = channel::<Box<dyn Send>>();
            let thread = Builder::new().name("tables-drop".to_owned());
            // Without a thread the receiver is gone, and the list is dropped by the failing send, here.
            self.0 = thread.spawn(move || receiver.into_iter().for_each(drop)).ok().map(|_| sender);
        }
        if let Some(sender) = &self.0 {
            _ = sender.send(Box::new(list));
        }
    }
}

/// Waking a thread costs about as much as dropping some dozens of rows.
const LARGE: usize = 256;
