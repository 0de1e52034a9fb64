//! Whether a device sleeps (`Documentation/power/runtime_pm.rst`, `Documentation/ABI/testing/sysfs-bus-pci`).

use std::path::Path;

use crate::reading::attribute::Attribute;

/// What the files of a device say while it sleeps. Each is in the device's folder.
const ASLEEP: [(&str, &[&[u8]]); 2] =
    [("power_state", &[b"D3hot", b"D3cold"]), ("power/runtime_status", &[b"suspended", b"suspending"])];
/// What `runtime_status` says of a device that never sleeps by itself.
const NEVER: &[u8] = b"unsupported";

/// The power of a device.
#[derive(Debug)]
pub(super) struct Power {
    /// The files that can say that it sleeps, each with what it says then. Reading them does not wake the device.
    files: Vec<(Attribute, &'static [&'static [u8]])>,
    is_asleep: bool,
}

impl Power {
    /// That of the device in the folder `device`.
    pub(super) fn of(device: &Path) -> Power {
        let file = |(name, asleep): (&str, _)| {
            let file = Attribute::open(&device.join(name)).ok()?;
            (file.with(|said| said == NEVER) != Ok(true)).then_some((file, asleep))
        };
        Power { files: ASLEEP.into_iter().filter_map(file).collect(), is_asleep: false }
    }

    /// Reads whether it sleeps now.
    pub(super) fn read(&mut self) {
        self.is_asleep = self.files.iter().any(|(file, asleep)| file.with(|said| asleep.contains(&said)) == Ok(true));
    }

    /// Whether it slept at the last read.
    pub(super) fn is_asleep(&self) -> bool {
        self.is_asleep
    }
}
