//! The name under which a data folder is recorded, if the configuration sets none.
//!
//! The host's own name may be another one at each boot: `localhost` before DHCP gives one, or a container's number. So the
//! first name is kept in the data folder, and recordings go on under it. It is given up for the host's own name if it is a
//! name that any host has, or if the folder came from another machine.

use std::fs;
use std::path::Path;

use super::data_folder::{FolderError, expect_file};
use super::partition::is_short;

/// The file with the name, in the data folder.
pub(super) const FILE: &str = "HOST";
/// What identifies a machine (machine-id(5)).
const MACHINE_ID: &str = "/etc/machine-id";
/// A host without a name has this one.
const NAMELESS: &str = "localhost";

/// Who records into a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The value of the partition `host`.
    pub(super) name: String,
    /// A checksum of the machine's identifier, which is not to be known to others; `None` where there is none.
    pub(super) machine: Option<u32>,
}

impl Identity {
    /// What this machine says of itself.
    pub(super) fn own() -> Identity {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let is_name = is_short(&name) && !name.trim().is_empty() && !name.chars().any(char::is_control);
        let machine = fs::read(MACHINE_ID).ok().filter(|id| !id.trim_ascii().is_empty());
        Identity {
            name: if is_name { name } else { NAMELESS.into() },
            machine: machine.map(|id| crc32c::crc32c(id.trim_ascii())),
        }
    }

    /// What the data folder says; `None` if it says nothing that can be understood.
    ///
    /// # Errors
    /// When something else than a file has the name of the file that says it.
    pub(super) fn of_folder(data: &Path) -> Result<Option<Identity>, FolderError> {
        let path = data.join(FILE);
        expect_file(&path)?;
        Ok(fs::read_to_string(path).ok().and_then(|text| Identity::parse(&text)))
    }

    fn parse(text: &str) -> Option<Identity> {
        let find = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let name = find("name").filter(|name| !name.is_empty() && is_short(name))?.to_owned();
        let machine = find("machine").and_then(|machine| u32::from_str_radix(machine, 16).ok());
        Some(Identity { name, machine })
    }

    /// What the data folder is to say.
    pub(super) fn text(&self) -> String {
        let machine = self.machine.map(|machine| format!("machine {machine:08x}\n")).unwrap_or_default();
        format!("name {}\n{machine}", self.name)
    }

    /// Who records from now on: `set` is the name of the configuration, or empty.
    pub(super) fn choose(set: &str, own: Identity, kept: Option<&Identity>) -> Identity {
        if !set.is_empty() {
            return Identity { name: set.into(), ..own };
        }
        let is_kept = |kept: &&Identity| {
            let is_elsewhere = kept.machine.zip(own.machine).is_some_and(|(kept, own)| kept != own);
            !is_elsewhere && (!is_common(&kept.name) || is_common(&own.name))
        };
        match kept.filter(is_kept) {
            Some(kept) => Identity { name: kept.name.clone(), machine: own.machine.or(kept.machine) },
            None => own,
        }
    }
}

/// Whether hosts have this name before they get one of their own.
fn is_common(name: &str) -> bool {
    name == "(none)" || name.split('.').next().is_some_and(|first| first.starts_with(NAMELESS))
}

/// The name under which a start would record into the folder `data`; `set` is the name of the configuration, or empty.
#[must_use]
pub fn name_of(data: &Path, set: &str) -> String {
    let kept = Identity::of_folder(data).ok().flatten();
    Identity::choose(set, Identity::own(), kept.as_ref()).name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: &str, machine: impl Into<Option<u32>>) -> Identity {
        Identity { name: name.into(), machine: machine.into() }
    }

    fn chosen(set: &str, own: Identity, kept: Option<Identity>) -> String {
        Identity::choose(set, own, kept.as_ref()).name
    }

    #[test]
    fn the_first_name_stays_until_the_user_sets_one() {
        assert_eq!(chosen("", identity("alpha", 1), None), "alpha");
        for own in ["beta", "localhost", "alpha.example.org", "(none)"] {
            assert_eq!(chosen("", identity(own, 1), Some(identity("alpha", 1))), "alpha");
            assert_eq!(chosen("gamma", identity(own, 1), Some(identity("alpha", 1))), "gamma");
            // A container may have no identifier.
            assert_eq!(chosen("", identity(own, None), Some(identity("alpha", 1))), "alpha");
            assert_eq!(chosen("", identity(own, 1), Some(identity("alpha", None))), "alpha");
        }
    }

    #[test]
    fn a_name_that_any_host_has_gives_way_once() {
        for common in ["localhost", "localhost.localdomain", "localhost6", "(none)"] {
            assert_eq!(chosen("", identity("alpha", 1), Some(identity(common, 1))), "alpha");
            assert_eq!(chosen("", identity("localhost", 1), Some(identity(common, 1))), common);
        }
    }

    #[test]
    fn another_machine_has_its_own_name() {
        assert_eq!(chosen("", identity("beta", 2), Some(identity("alpha", 1))), "beta");
        let known = Identity::choose("", identity("beta", None), Some(&identity("alpha", 1)));
        assert_eq!(known, identity("alpha", 1));
    }

    #[test]
    fn what_is_kept_is_read_back() {
        for known in [identity("a b/ü", 7), identity("x", None), identity("x", u32::MAX)] {
            assert_eq!(Identity::parse(&known.text()), Some(known));
        }
        let long = format!("name {}\n", "ü".repeat(100));
        for broken in [&*long, "", "name", "name \n", "machine 00000001\n", "alpha\n"] {
            assert_eq!(Identity::parse(broken), None, "{broken:?}");
        }
        let own = Identity::own();
        assert!(!own.name.is_empty());
        assert_eq!(Identity::parse(&own.text()), Some(own));
    }
}
