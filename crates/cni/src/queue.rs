//! Requests of one attachment, one after the other in the order in which they came. A retry joins the request that it
//! repeats, if nothing else came between.
//!
//! ```text
//!  ADD c1 (running) ◀─ DEL c1 (waits) ◀─ ADD c1 (waits: the last; the same ADD again joins this one)
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use crate::arguments::Arguments;
use crate::error::CniError;
use crate::request::{Request, Response};

/// An answer, for each who waits for it.
pub type Outcome = Shared<BoxFuture<'static, Response>>;

/// Container and interface.
type Attachment = (String, String);

/// The last request of each attachment in work. A request waits for the one that was last before it.
#[derive(Default)]
pub struct Queue(Mutex<HashMap<Attachment, Last>>);

struct Last {
    /// What was asked; `None` for what nobody can repeat.
    request: Option<Request>,
    outcome: Outcome,
    askers: Weak<()>,
    /// Tells it from the last ones before and after.
    place: Arc<()>,
}

/// Takes a request out of the queue when its work ends, even by a panic, unless another came after it.
struct Landing {
    queue: Arc<Queue>,
    attachment: Attachment,
    place: Arc<()>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut lasts = self.queue.lock();
        if lasts.get(&self.attachment).is_some_and(|last| Arc::ptr_eq(&last.place, &self.place)) {
            lasts.remove(&self.attachment);
        }
    }
}

impl Queue {
    /// Joins the last request of the attachment if that is the same one and somebody still waits for it; otherwise what
    /// `begin` makes is worked on when all before it has ended. `begin` is told who waits: its last asker is gone when
    /// no strong reference is left. The caller keeps the one it gets for as long as it waits.
    pub fn enter<F>(
        self: &Arc<Self>,
        request: &Request,
        begin: impl FnOnce(Weak<()>) -> F,
    ) -> (Outcome, Arc<()>)
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let mut lasts = self.lock();
        if let Some(last) = lasts.get(&attachment(&request.arguments))
            && last.request.as_ref() == Some(request)
            && let Some(asker) = last.askers.upgrade()
        {
            return (last.outcome.clone(), asker);
        }
        let asker = Arc::new(());
        let askers = Arc::downgrade(&asker);
        let work = begin(askers.clone());
        (self.push(&mut lasts, &request.arguments, Some(request.clone()), askers, work), asker)
    }

    /// Work in the turn of an attachment that nobody asks for now, so that nobody can join it.
    pub fn append(
        self: &Arc<Self>,
        arguments: &Arguments,
        work: impl Future<Output = Response> + Send + 'static,
    ) -> Outcome {
        self.push(&mut self.lock(), arguments, None, Weak::new(), work)
    }

    fn push(
        self: &Arc<Self>,
        lasts: &mut HashMap<Attachment, Last>,
        arguments: &Arguments,
        request: Option<Request>,
        askers: Weak<()>,
        work: impl Future<Output = Response> + Send + 'static,
    ) -> Outcome {
        let attachment = attachment(arguments);
        let place = Arc::new(());
        let landing = Landing { queue: self.clone(), attachment: attachment.clone(), place: place.clone() };
        let before = lasts.get(&attachment).map(|last| last.outcome.clone());
        let task = tokio::spawn(async move {
            let _landing = landing;
            if let Some(before) = before {
                before.await;
            }
            work.await
        });
        let outcome = task
            .map(|ended| ended.unwrap_or_else(|e| Response::Failed(CniError::generic("the agent failed", e))))
            .boxed()
            .shared();
        lasts.insert(attachment, Last { request, outcome: outcome.clone(), askers, place });
        outcome
    }

    /// How many wait for the last request of an attachment.
    #[cfg(test)]
    pub fn askers(&self, arguments: &Arguments) -> usize {
        self.lock().get(&attachment(arguments)).map_or(0, |last| last.askers.strong_count())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Attachment, Last>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which attachment a request is for.
pub fn attachment(arguments: &Arguments) -> Attachment {
    (arguments.container_id.clone(), arguments.ifname.clone())
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::arguments::Verb;
    use crate::request::{PROTOCOL, Plugin};

    fn request(verb: Verb) -> Request {
        let arguments = Arguments {
            verb,
            container_id: "c1".to_owned(),
            netns: String::new(),
            ifname: "eth0".to_owned(),
            args: String::new(),
            path: String::new(),
        };
        Request { protocol: PROTOCOL, plugin: Plugin::Network, arguments, netconf: serde_json::Value::Null }
    }

    fn done(what: &str) -> Response {
        Response::Done(Some(what.into()))
    }

    #[tokio::test]
    async fn order_is_that_of_arrival_and_a_retry_joins_only_the_last() {
        let queue = Arc::new(Queue::default());
        let log = Arc::new(Mutex::new(Vec::new()));
        let (release, held) = oneshot::channel::<()>();
        let noted = |what: &'static str, held: Option<oneshot::Receiver<()>>| {
            let log = log.clone();
            move |_: Weak<()>| async move {
                if let Some(held) = held {
                    held.await.expect("released");
                }
                log.lock().expect("whole").push(what);
                done(what)
            }
        };
        let (first, _first) = queue.enter(&request(Verb::Add), noted("add", Some(held)));
        let (retry, _retry) = queue.enter(&request(Verb::Add), noted("joined instead", None));
        let (del, _del) = queue.enter(&request(Verb::Del), noted("del", None));
        let spooled = queue.append(&request(Verb::Del).arguments, noted("spooled", None)(Weak::new()));
        let (again, _again) = queue.enter(&request(Verb::Add), noted("add after del", None));
        release.send(()).expect("waits");
        assert_eq!(again.await, done("add after del"));
        assert_eq!((first.await, retry.await, del.await), (done("add"), done("add"), done("del")));
        assert_eq!(spooled.await, done("spooled"));
        assert_eq!(*log.lock().expect("whole"), ["add", "del", "spooled", "add after del"]);
        assert!(queue.lock().is_empty(), "what is done is forgotten");
    }

    #[tokio::test]
    async fn who_has_gone_is_not_joined() {
        let queue = Arc::new(Queue::default());
        let (_never, held) = oneshot::channel::<()>();
        let _running =
            queue.append(&request(Verb::Add).arguments, async { held.await.map_or(done(""), |()| done("")) });
        let (_, asker) = queue
            .enter(&request(Verb::Add), |askers| async move { done(&askers.strong_count().to_string()) });
        let gone = Arc::downgrade(&asker);
        drop(asker);
        assert_eq!(gone.strong_count(), 0);
        let (second, _asker) = queue
            .enter(&request(Verb::Add), |askers| async move { done(&askers.strong_count().to_string()) });
        drop(_never);
        assert_eq!(second.await, done("1"));
    }
}
