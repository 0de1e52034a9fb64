//! Slots: small numbers that keep apart rows of processes with equal commands.
//!
//! Rows with equal labels are one series, and processes with equal commands are common. A label for each pid would fill
//! the interner. So a process has a slot while it has a row, and gets the same slot again if no other process took it
//! meanwhile. Slots are reused so that a process seldom follows one with the same command.

use super::table::Identity;
use crate::reading::reader::Kept;

/// A slot that was free for this long is given to any process.
const REST_NS: i64 = 60_000_000_000;

/// The slots of a sampler.
#[derive(Debug)]
pub(super) struct Slots {
    /// By their numbers.
    pub(super) list: Vec<Slot>,
    slots_max: usize,
}

/// A process's number among rows of one command.
#[derive(Debug)]
pub(super) struct Slot {
    holder: Identity,
    command: Vec<u8>,
    /// The last tick at which it was held.
    used_ns: i64,
    /// Its number, from 1.
    pub(super) text: String,
    /// The holder's `/proc/PID/io`.
    pub(super) io: Kept,
    /// What seldom changes of the holder.
    pub(super) place: Place,
}

/// Whose a process is, and its control group.
#[derive(Debug)]
pub(super) struct Place {
    /// When it was read; [`i64::MIN`] before.
    pub(super) read_ns: i64,
    /// The effective user's id.
    pub(super) user: Option<i64>,
    pub(super) cgroup: Vec<u8>,
}

impl Default for Place {
    fn default() -> Place {
        Place { read_ns: i64::MIN, user: None, cgroup: Vec::new() }
    }
}

impl Slots {
    /// At most `slots_max` slots, which must be more than the rows of a tick.
    pub(super) fn of(slots_max: usize) -> Slots {
        Slots { list: Vec::new(), slots_max }
    }

    /// Holds a process's previous slot for this tick; `false` if another process has it now.
    pub(super) fn hold(&mut self, slot: usize, holder: Identity, now_ns: i64) -> bool {
        let own = self.list.get_mut(slot).filter(|slot| slot.holder == holder);
        own.map(|slot| slot.used_ns = now_ns).is_some()
    }

    /// Gives a process a slot that nobody holds at this tick; `None` if all are held. Call [`hold`](Self::hold) for all
    /// others before. Prefers the lowest slot that no process of the same command had just before.
    pub(super) fn give(&mut self, holder: Identity, command: &[u8], now_ns: i64) -> Option<usize> {
        let best = |slot: &Slot| slot.command != command || now_ns.saturating_sub(slot.used_ns) > REST_NS;
        let found = match self.list.iter().position(|slot| slot.used_ns != now_ns && best(slot)) {
            Some(found) => found,
            None if self.list.len() < self.slots_max => self.list.len(),
            None => {
                let free = self.list.iter().enumerate().filter(|(_, slot)| slot.used_ns != now_ns);
                free.min_by_key(|(_, slot)| slot.used_ns)?.0
            }
        };
        match self.list.get_mut(found) {
            Some(slot) => {
                slot.holder = holder;
                command.clone_into(&mut slot.command);
                slot.used_ns = now_ns;
                slot.io = Kept::default();
                slot.place.read_ns = i64::MIN;
            }
            None => {
                let text = (found + 1).to_string();
                let command = command.to_owned();
                self.list.push(Slot {
                    holder,
                    command,
                    used_ns: now_ns,
                    text,
                    io: Kept::default(),
                    place: Place::default(),
                });
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32) -> Identity {
        Identity { pid, start: 1 }
    }

    #[test]
    fn a_process_keeps_its_slot_until_it_is_given_away() {
        let (a, b) = (b"a".as_slice(), b"b".as_slice());
        let mut slots = Slots::of(8);
        assert_eq!((slots.give(process(1), a, 0), slots.give(process(2), a, 0)), (Some(0), Some(1)));
        assert!(slots.hold(1, process(2), 1) && !slots.hold(0, process(3), 1) && !slots.hold(9, process(1), 1));
        assert_eq!(slots.give(process(3), a, 1), Some(2), "the free one was another's of the same command");
        assert!(slots.hold(0, process(1), 2), "it is back");
        assert_eq!(slots.give(process(4), b, 3), Some(0));
        assert!(!slots.hold(0, process(1), 4));
        assert!(!slots.hold(0, Identity { pid: 4, start: 2 }, 4), "it is another process of that pid");
        assert_eq!(slots.give(process(5), a, 3 + 2 * REST_NS), Some(0), "it has rested");
    }

    #[test]
    fn where_all_had_the_same_command_the_one_that_rested_longest_is_given() {
        let a = b"a".as_slice();
        let mut slots = Slots::of(2);
        assert_eq!((slots.give(process(1), a, 0), slots.give(process(2), a, 0)), (Some(0), Some(1)));
        assert_eq!(slots.give(process(3), a, 0), None);
        assert!(slots.hold(0, process(1), 1));
        assert_eq!(slots.give(process(3), a, 2), Some(1));
        assert_eq!(slots.give(process(4), a, 2), Some(0));
    }
}
