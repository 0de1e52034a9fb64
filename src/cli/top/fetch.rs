//! Reads pictures on a thread of its own, so that drawing and keys never wait for a daemon, a network or a disk.

use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::events::Firing;
use super::picture::Picture;
use super::reader::{Reader, Wanted};
use super::source::Refused;
use crate::cli::show::in_one_line;

/// Reading begins at most so often.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// And at least so often while the newest is shown: numbers are of the last second.
const INTERVAL_MAX: Duration = Duration::from_secs(1);
/// Reading takes at most a quarter of the time,
const REST: u32 = 3;
/// unless it takes long: what is shown is never older than two answers and this.
const REST_MAX: Duration = Duration::from_secs(1);
/// What runs when something else is wanted may take so long before it is given up.
const PATIENCE: Duration = Duration::from_millis(300);
/// Files do not change, but a running daemon may add some.
const FILES_INTERVAL: Duration = Duration::from_secs(10);
/// How often alerts are asked for while the past is shown.
const ALERTS_INTERVAL: Duration = Duration::from_secs(2);
/// How long after a failure another try begins.
const RETRY: Duration = Duration::from_secs(1);
/// The same for a daemon that has too much to do.
pub(super) const RETRY_BUSY: Duration = Duration::from_secs(2);

/// What happens to the view.
#[derive(Debug)]
pub(super) enum Happening {
    Bytes(Vec<u8>),
    Picture(Box<Picture>),
    /// The past stays as it is, but these alerts are on now.
    Firing(Vec<Firing>),
    /// There is no picture, and why.
    Failed(Failure),
    Resized,
    Continued,
    /// A signal asks for the end.
    Ended,
}

/// Why there is no picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody answers.
    Lost(String),
    /// The daemon has too much to do.
    Busy(String),
    /// The daemon or the files give no rows.
    Refused(String),
}

impl Failure {
    fn of(error: &anyhow::Error) -> Failure {
        let reason = in_one_line(error);
        match error.downcast_ref::<Refused>() {
            Some(refused) if refused.is_busy => Failure::Busy(reason),
            Some(_) => Failure::Refused(reason),
            None => Failure::Lost(reason),
        }
    }
}

/// What the view wants of the thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) wanted: Wanted,
    /// Whether the terminal has the focus; nobody looks closely otherwise.
    pub(super) has_focus: bool,
}

/// Reads what is wished for, until the sender of wishes is gone.
pub(super) async fn read(mut reader: Reader, mut wishes: watch::Receiver<Wish>, to: Sender<Happening>) {
    loop {
        let wish = wishes.borrow_and_update().clone();
        let begun = Instant::now();
        let mut is_stale = false;
        let outcome = {
            let reading = reader.read(&wish.wanted, ours_us());
            let mut reading = std::pin::pin!(reading);
            tokio::select! {
                outcome = &mut reading => Some(outcome),
                changed = wishes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    is_stale = true;
                    timeout(PATIENCE, &mut reading).await.ok()
                }
            }
        };
        let Some(outcome) = outcome else { continue };
        let pause = match &outcome {
            Ok(_) if reader.is_files() => FILES_INTERVAL,
            Ok(_) => interval(&wish, begun.elapsed()),
            Err(error) if matches!(Failure::of(error), Failure::Busy(_)) => RETRY_BUSY,
            Err(_) => RETRY,
        };
        let is_live = wish.wanted.at.is_none() || outcome.is_err();
        let happening = match outcome {
            Ok(picture) => Happening::Picture(Box::new(picture)),
            Err(error) => Happening::Failed(Failure::of(&error)),
        };
        if to.send(happening).is_err() {
            return;
        }
        if is_stale {
            continue;
        }
        if is_live {
            tokio::select! {
                () = sleep(pause) => {}
                changed = wishes.changed() => if changed.is_err() { return },
            }
        } else if !watch_alerts(&mut reader, &mut wishes, &to).await {
            return;
        }
    }
}

/// Asks for alerts until something else is wished for. `false`: nobody is left.
async fn watch_alerts(reader: &mut Reader, wishes: &mut watch::Receiver<Wish>, to: &Sender<Happening>) -> bool {
    loop {
        tokio::select! {
            () = sleep(ALERTS_INTERVAL) => {}
            changed = wishes.changed() => return changed.is_ok(),
        }
        let happening = match reader.firing().await {
            Ok(Some(firing)) => Happening::Firing(firing),
            Ok(None) => continue,
            Err(error) => Happening::Failed(Failure::of(&error)),
        };
        if to.send(happening).is_err() {
            return false;
        }
    }
}

/// How long to rest after a picture that took so long.
fn interval(wish: &Wish, took: Duration) -> Duration {
    let least = if wish.has_focus { INTERVAL_MIN } else { INTERVAL_MAX };
    let width = match &wish.wanted.at {
        Some((window, _)) => window.width_us,
        None => super::window::Window::ending_at(0, wish.wanted.length_us, wish.wanted.cells).width_us,
    };
    let width = Duration::from_micros(u64::try_from(width).unwrap_or(0));
    width.clamp(least, INTERVAL_MAX).saturating_sub(took).max((took * REST).min(REST_MAX))
}

/// Tells of signals, until nobody listens.
///
/// # Errors
/// When the system does not give them.
pub(super) async fn watch_signals(to: Sender<Happening>) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    // These would end it, too, and leave the terminal as it is.
    let mut quit = signal(SignalKind::quit())?;
    let mut first_user = signal(SignalKind::user_defined1())?;
    let mut second_user = signal(SignalKind::user_defined2())?;
    let mut resize = signal(SignalKind::window_change())?;
    let mut go_on = signal(SignalKind::from_raw(libc::SIGCONT))?;
    loop {
        let happening = tokio::select! {
            _ = terminate.recv() => Happening::Ended,
            _ = interrupt.recv() => Happening::Ended,
            _ = hang_up.recv() => Happening::Ended,
            _ = quit.recv() => Happening::Ended,
            _ = first_user.recv() => Happening::Ended,
            _ = second_user.recv() => Happening::Ended,
            _ = resize.recv() => Happening::Resized,
            _ = go_on.recv() => Happening::Continued,
        };
        if to.send(happening).is_err() {
            return Ok(());
        }
    }
}

/// The time of this host.
pub(super) fn ours_us() -> i64 {
    Timestamp::now().as_microsecond()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::window::{DAY_US, MINUTE_US, SHORTEST_US};

    #[test]
    fn pictures_are_read_once_a_cell_and_take_a_quarter_of_the_time_at_most_but_are_never_long_in_coming() {
        let wish = |length_us, has_focus| Wish {
            wanted: Wanted {
                length_us,
                cells: 36,
                at: None,
                seek: None,
                has_cores: false,
                has_groups: false,
                metrics: Vec::new(),
                unfolded: None,
                history: 0,
            },
            has_focus,
        };
        let ms = Duration::from_millis;
        assert_eq!(interval(&wish(MINUTE_US, true), ms(20)), ms(980));
        assert_eq!(interval(&wish(DAY_US, true), ms(20)), ms(980));
        assert_eq!(interval(&wish(SHORTEST_US, true), ms(20)), ms(80));
        assert_eq!(interval(&wish(SHORTEST_US, false), ms(20)), ms(980));
        assert_eq!(interval(&wish(SHORTEST_US, true), ms(200)), ms(600));
        for slow in [500, 4_000, 10_000] {
            assert_eq!(interval(&wish(SHORTEST_US, true), ms(slow)), ms(1_000));
        }
    }
}
