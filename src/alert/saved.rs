//! The alerts that are on, and what their notifiers were not told yet, as bytes that outlive the daemon.
//!
//! One line says what this is. Each alert and each notification is a line of JSON. The last line has their number and the
//! CRC-32C of all lines before it, so that a file that was cut or changed is not believed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::notification::Notification;
use super::state::Transition;

/// The size of all that is saved. What is beyond is left out, notifications first: these are not told again after a restart.
/// Alerts that are left out are told again if they go on.
pub const SAVED_BYTES_MAX: usize = 8 << 20;

const FIRST_LINE: &str = "kymo alerts 1\n";

/// An alert that is on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedAlert {
    /// The rule's name.
    pub rule: String,
    /// The table that it watches.
    pub table: String,
    /// `firing` or `no data`.
    pub state: Transition,
    /// When it fired, µs since the epoch.
    pub since_us: i64,
    /// The worst value since then, if there was one.
    pub peak: Option<f64>,
    /// The labels of its series by name. Without those that may have any text.
    pub labels: BTreeMap<String, String>,
    /// Who was told.
    pub notify: Vec<String>,
}

/// A notification that was not delivered yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedNotification {
    /// The name of the notifier that it is for.
    pub notifier: String,
    /// What it is told.
    pub notification: Notification,
}

/// All that is saved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saved {
    /// The alerts that are on.
    pub alerts: Vec<SavedAlert>,
    /// The notifications that wait, for each notifier from the oldest to the newest.
    pub waiting: Vec<SavedNotification>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Alert(SavedAlert),
    Waiting(SavedNotification),
}

/// As bytes, and how many lines were left out as they would take more than [`SAVED_BYTES_MAX`].
#[must_use]
pub fn encode(saved: Saved) -> (Vec<u8>, usize) {
    let mut bytes = FIRST_LINE.as_bytes().to_vec();
    let mut kept = 0;
    let count = saved.alerts.len() + saved.waiting.len();
    let alerts = saved.alerts.into_iter().map(Line::Alert);
    for line in alerts.chain(saved.waiting.into_iter().map(Line::Waiting)) {
        // Maps with text keys, numbers and texts can all be written as JSON.
        let Ok(line) = serde_json::to_vec(&line) else { continue };
        if bytes.len() + line.len() + 1 > SAVED_BYTES_MAX {
            break;
        }
        bytes.extend(line);
        bytes.push(b'\n');
        kept += 1;
    }
    let last = format!("{kept} lines, crc32c {:08x}\n", crc32c::crc32c(&bytes));
    bytes.extend(last.as_bytes());
    (bytes, count - kept)
}

/// What is in `bytes`.
///
/// # Errors
/// What is wrong with the bytes, in words.
pub fn decode(bytes: &[u8]) -> Result<Saved, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    if !text.starts_with(FIRST_LINE) {
        return Err(format!("it does not begin with {:?}", FIRST_LINE.trim_end()));
    }
    let body = text.strip_suffix('\n').and_then(|text| text.rsplit_once('\n')).map_or("", |(body, _)| body);
    // With the newline that ends it.
    let (body, last) = text.split_at((body.len() + 1).min(text.len()));
    let count = body.lines().count().saturating_sub(1);
    if last != format!("{count} lines, crc32c {:08x}\n", crc32c::crc32c(body.as_bytes())) {
        return Err("its checksum is wrong, or its end is missing".into());
    }
    let mut saved = Saved::default();
    for line in body.lines().skip(1) {
        match serde_json::from_str(line).map_err(|error| error.to_string())? {
            Line::Alert(alert) if alert.state.is_on() => saved.alerts.push(alert),
            Line::Alert(SavedAlert { rule, state, .. }) => {
                return Err(format!("an alert of {rule:?} is {}, which is over", state.as_str()));
            }
            Line::Waiting(waiting) => saved.waiting.push(waiting),
        }
    }
    Ok(saved)
}

#[cfg(test)]
mod tests {
    use super::super::notification::tests::notification;
    use super::*;

    fn alert(rule: &str, peak: f64) -> SavedAlert {
        SavedAlert {
            rule: rule.into(),
            table: "disk".into(),
            state: Transition::Firing,
            since_us: 1_700_000_000_000_000,
            peak: Some(peak).filter(|peak| peak.is_finite()),
            labels: BTreeMap::from([("device".into(), "a\n\"b".into())]),
            notify: vec!["log".into()],
        }
    }

    fn waiting(notifier: &str) -> SavedNotification {
        let notification = notification("busy", Transition::Gone);
        SavedNotification { notifier: notifier.into(), notification }
    }

    #[test]
    fn alerts_and_notifications_come_back_as_they_were() {
        let all = [vec![], vec![alert("one", 0.1 + 0.2)], vec![alert("two \u{1F980}", f64::NAN), alert("", -1e300)]];
        for alerts in all {
            let waiting = alerts.iter().map(|alert| waiting(&alert.rule)).collect();
            let saved = Saved { alerts, waiting };
            let (bytes, left_out) = encode(saved.clone());
            assert_eq!((decode(&bytes), left_out), (Ok(saved), 0));
        }
    }

    #[test]
    fn any_damage_is_noticed() {
        let (bytes, _) = encode(Saved { alerts: vec![alert("one", 1.5)], waiting: vec![waiting("hook")] });
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "cut to {len}");
        }
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[position] ^= 1 << bit;
                assert!(decode(&damaged).is_err(), "bit {bit} of byte {position}");
            }
        }
        assert!(decode(&[bytes.clone(), bytes].concat()).is_err());
        let over = SavedAlert { state: Transition::Resolved, ..alert("one", 1.5) };
        let (bytes, _) = encode(Saved { alerts: vec![over], waiting: Vec::new() });
        assert_eq!(decode(&bytes), Err("an alert of \"one\" is resolved, which is over".to_owned()));
    }

    #[test]
    fn the_size_is_bounded() {
        let alerts = vec![alert(&"x".repeat(1 << 20), 1.0); 10];
        let (bytes, left_out) = encode(Saved { alerts, waiting: vec![waiting("hook")] });
        assert!(bytes.len() <= SAVED_BYTES_MAX + 100);
        let saved = decode(&bytes).unwrap();
        assert_eq!((saved.alerts.len(), saved.waiting.len(), left_out), (7, 0, 4));
    }
}
