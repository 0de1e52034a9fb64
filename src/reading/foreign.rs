//! What kymo sees of its own namespaces where a user may expect the host's (`namespaces(7)`). Only what is certain is said.

use std::path::Path;

use super::roots::{FIRST_PID_NAMESPACE, RootMount, Roots, has_own_network, pid_namespace};

/// What is not the host's, in sentences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// What the configuration asks for and kymo cannot see.
    pub unseen: Vec<String>,
    /// What belongs to kymo's own namespaces, as the configuration names no host around them.
    pub own: Vec<String>,
}

impl Foreign {
    /// Looks for it once. What it says holds for collectors that start at this moment.
    #[must_use]
    pub fn of(roots: &Roots) -> Foreign {
        if !roots.name_host() {
            return Foreign { own: own(&roots.procfs), ..Foreign::default() };
        }
        let procfs = roots.procfs.display();
        if !roots.are_of_host() {
            let unseen = format!(
                "process 1 of host.procfs ({procfs}) cannot be seen, because the mount option hidepid hides it or because that \
                 procfs is not the host's: `network`, `tcp`, `ip` and `filesystem` show kymo's own network and mounts, not \
                 the host's. Mount the host's /proc there, and give kymo CAP_SYS_PTRACE or the group that the mount option gid= \
                 names; then restart kymo"
            );
            return Foreign { unseen: vec![unseen], ..Foreign::default() };
        }
        let is_host = pid_namespace(&roots.procfs, "1").is_none_or(|namespace| namespace == FIRST_PID_NAMESPACE);
        let other = format!(
            "process 1 of host.procfs ({procfs}) is the first process of a container, not of the host: `network`, `tcp`, `ip` \
             and `filesystem` show what that process sees, and `process` only the processes of the container"
        );
        Foreign { own: (!is_host).then_some(other).into_iter().collect(), ..Foreign::default() }
    }
}

/// What belongs to the namespaces of the process `self` in `procfs`.
fn own(procfs: &Path) -> Vec<String> {
    const REMEDY: &str = "To record the host, see [host] in the configuration";

    let mut own = Vec::new();
    if has_own_network(procfs) {
        own.push(format!(
            "kymo runs in a network namespace of its own: `network`, `tcp` and `ip` show that namespace, not the host. {REMEDY}"
        ));
    }
    if pid_namespace(procfs, "self").is_some_and(|namespace| namespace != FIRST_PID_NAMESPACE) {
        own.push(format!(
            "kymo runs in a pid namespace of its own, as in a container: `process` shows only the processes in it, and \
             `filesystem` only the mounts that kymo itself sees. {REMEDY}"
        ));
    } else if let (Some(own_root), Some(root)) = (RootMount::of(procfs, "self"), RootMount::of(procfs, "1"))
        && !own_root.is_of_root(&root)
    {
        own.push(format!(
            "kymo has another root folder than the host, as in a container: `filesystem` shows only the mounts that kymo \
             itself sees. {REMEDY}"
        ));
    }
    own
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Tree {
            Tree(tempfile::tempdir().unwrap())
        }

        fn with(self, name: &str, text: &str) -> Tree {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if name.ends_with("ns/pid") {
                symlink(text, path).unwrap();
            } else {
                fs::write(path, text).unwrap();
            }
            self
        }

        fn own(&self) -> String {
            own(self.0.path()).join("\n")
        }

        fn foreign(&self) -> Foreign {
            Foreign::of(&Roots { procfs: self.0.path().to_owned(), ..Roots::default() })
        }
    }

    #[test]
    fn only_what_is_certain_is_said() {
        assert_eq!(Tree::new().own(), "", "nothing can be seen");
        let root = |number| format!("46 45 {number} / / rw - ext4 /dev/vda rw\n48 46 0:21 / /proc rw - proc proc rw\n");
        let host = || {
            let settings = Tree::new().with("sys/net/core/somaxconn", "1").with("sys/net/core/dev_weight", "1");
            settings.with("self/ns/pid", FIRST_PID_NAMESPACE).with("1/mountinfo", &root("254:0"))
        };
        assert_eq!(host().with("self/mountinfo", &root("254:0")).own(), "");
        let other_root = host().with("self/mountinfo", &root("0:50")).own();
        assert!(other_root.starts_with("kymo has another root folder"), "{other_root}");
        let container = Tree::new().with("sys/net/core/somaxconn", "1").with("self/ns/pid", "pid:[4026532178]").own();
        assert!(container.starts_with("kymo runs in a network namespace of its own: `network`"), "{container}");
        assert!(
            container.contains("\nkymo runs in a pid namespace of its own, as in a container: `process`"),
            "{container}"
        );
    }

    #[test]
    fn a_host_whose_first_process_is_hidden_is_not_seen() {
        let hidden = Tree::new().with("net/dev", "").foreign();
        assert!(hidden.own.is_empty() && hidden.unseen.len() == 1);
        assert!(hidden.unseen[0].contains("CAP_SYS_PTRACE"), "{hidden:?}");
        assert_eq!(Tree::new().with("1/stat", "").foreign(), Foreign::default());
        assert_eq!(Tree::new().with("1/ns/pid", FIRST_PID_NAMESPACE).foreign(), Foreign::default());
        let nested = Tree::new().with("1/ns/pid", "pid:[4026532178]").foreign();
        assert!(nested.unseen.is_empty() && nested.own[0].contains("the first process of a container"), "{nested:?}");
    }
}
