//! The plugin through the agent's socket; without an agent, ADD fails in time and DEL is kept for later.

use std::collections::BTreeSet;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::machine::{on_machine, wait_for};

#[test]
fn the_agent_does_the_work() {
    on_machine(|machine| {
        let agent = machine.agent();
        let conf = machine.through_agent();
        let names: Vec<String> = (0..10).map(|n| format!("c{n}")).collect();
        let _containers: Vec<_> = names.iter().map(|n| machine.container(n)).collect();
        let started: Vec<_> = names.iter().map(|n| machine.start_verb("ADD", n, &conf)).collect();
        let results: Vec<Value> = started.into_iter().map(|p| p.finish().unwrap()).collect();
        for (name, result) in names.iter().zip(&results) {
            let mut check = conf.clone();
            check["prevResult"] = result.clone();
            assert_eq!(machine.verb("CHECK", name, &check), Ok(Value::Null));
        }
        assert_eq!(machine.verb("STATUS", "c0", &conf), Ok(Value::Null));
        let started: Vec<_> = names.iter().map(|n| machine.start_verb("DEL", n, &conf)).collect();
        started.into_iter().for_each(|p| assert_eq!(p.finish(), Ok(Value::Null)));
        assert_eq!(machine.leftovers(), BTreeSet::new());
        let error = machine.verb("CHECK", "c0", &conf).unwrap_err();
        assert_eq!((&error["code"], &error["cniVersion"]), (&3.into(), &"1.1.0".into()));
        agent.stop();
    });
}

#[test]
fn a_del_without_an_agent_is_done_by_the_next() {
    on_machine(|machine| {
        let conf = machine.through_agent();
        let _containers = [machine.container("c1"), machine.container("c2")];
        let agent = machine.agent();
        machine.verb("ADD", "c1", &conf).unwrap();
        agent.stop();
        let attached = machine.leftovers();

        let began = Instant::now();
        let add = machine.start_verb("ADD", "c2", &conf);
        assert_eq!(machine.verb("DEL", "c1", &conf), Ok(Value::Null));
        assert!(began.elapsed() < Duration::from_secs(5), "a DEL does not wait for an agent");
        assert_eq!(std::fs::read_dir(machine.spool()).unwrap().count(), 1);
        let status = machine.verb("STATUS", "c1", &conf).unwrap_err();
        assert_eq!(status["code"], 50, "{status}");
        let error = add.finish().unwrap_err();
        assert_eq!((&error["code"], &error["msg"]), (&11.into(), &"the agent did not answer".into()));
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        assert_eq!(machine.leftovers(), attached, "the ADD left nothing, the DEL did nothing yet");

        let agent = machine.agent();
        wait_for("the spooled DEL", || std::fs::read_dir(machine.spool()).unwrap().count() == 0);
        assert_eq!(machine.leftovers(), BTreeSet::new());
        agent.stop();
    });
}

/// A roll of the agent while many pods go: no DEL fails, and none is forgotten.
#[test]
fn a_hundred_deletions_over_a_roll_leave_nothing() {
    on_machine(|machine| {
        let conf = machine.through_agent();
        let names: Vec<String> = (0..100).map(|n| format!("c{n}")).collect();
        let _containers: Vec<_> = names.iter().map(|n| machine.container(n)).collect();
        let agent = machine.agent();
        for part in names.chunks(20) {
            let started: Vec<_> = part.iter().map(|n| machine.start_verb("ADD", n, &conf)).collect();
            started.into_iter().for_each(|p| drop(p.finish().unwrap()));
        }
        assert_eq!(machine.leftovers().len(), 3 * names.len(), "endpoint, handle and interface of each");

        // Some find the old agent, some are cut off by its end, some find none.
        let started: Vec<_> = names[..50].iter().map(|n| machine.start_verb("DEL", n, &conf)).collect();
        agent.stop();
        let late: Vec<_> = names[50..].iter().map(|n| machine.start_verb("DEL", n, &conf)).collect();
        started.into_iter().chain(late).for_each(|p| assert_eq!(p.finish(), Ok(Value::Null)));
        let spooled = || std::fs::read_dir(machine.spool()).unwrap().count();
        assert!(spooled() >= 50, "{} in the spool", spooled());
        assert!(!machine.leftovers().is_empty());

        let agent = machine.agent();
        wait_for("every spooled DEL", || spooled() == 0);
        assert_eq!(machine.leftovers(), BTreeSet::new());
        agent.stop();
    });
}

#[test]
fn an_agent_that_breaks_off_is_as_good_as_none() {
    on_machine(|machine| {
        let conf = machine.through_agent();
        let _container = machine.container("c1");
        let listener = UnixListener::bind(machine.socket()).unwrap();
        let hang_up = || drop(listener.accept().unwrap());
        let add = machine.start_verb("ADD", "c1", &conf);
        hang_up();
        assert_eq!(add.finish().unwrap_err()["code"], 11);
        let del = machine.start_verb("DEL", "c1", &conf);
        hang_up();
        assert_eq!(del.finish(), Ok(Value::Null));
        assert_eq!(std::fs::read_dir(machine.spool()).unwrap().count(), 1);
        drop(listener);

        // An ADD of the same container begins with what was to be done before it.
        let agent = machine.agent();
        machine.verb("ADD", "c1", &conf).unwrap();
        assert_eq!(std::fs::read_dir(machine.spool()).unwrap().count(), 0);
        assert_eq!(machine.verb("CHECK", "c1", &conf), Ok(Value::Null));
        assert_eq!(machine.verb("DEL", "c1", &conf), Ok(Value::Null));
        agent.stop();
    });
}
