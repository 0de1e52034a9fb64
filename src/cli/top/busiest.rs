//! Which of several interfaces and devices are shown.

use super::picture::Picture;

/// The chosen interface and device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Busiest {
    pub(super) interface: Option<String>,
    pub(super) device: Option<String>,
}

impl Busiest {
    /// Chooses anew for a picture.
    pub(super) fn update(&mut self, picture: &Picture) {
        self.interface = picture.charts.busiest("network", self.interface.as_deref());
        self.device = picture.charts.busiest("disk", self.device.as_deref());
    }
}
