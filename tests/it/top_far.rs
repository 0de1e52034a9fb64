//! `kymo top` over a slow link, one that stands still, and beside a daemon whose files it reads.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::looking::Looking;
use super::running::{Daemon, command};

const CONFIG: &str = r#"
[collector.burst]
interval = "10ms"
metrics = ["network", "disk"]
[collector.system]
interval = "100ms"
metrics = ["cpu", "memory"]
[collector.slow]
interval = "1s"
metrics = ["host", "process", "cgroup"]
"#;
/// What the slow link carries, each way.
const BYTES_PER_SECOND: usize = 100_000;
/// The view answers a key within this time, whatever the link does. It draws ten times a second, beside other tests.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// A link to a daemon that carries so many bytes a second, and can stand still.
struct Link {
    address: SocketAddr,
    is_still: Arc<AtomicBool>,
}

impl Link {
    fn to(daemon: &Daemon) -> Link {
        let to: SocketAddr = daemon.address.trim_start_matches("grpc://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_still = Arc::new(AtomicBool::new(false));
        let still = Arc::clone(&is_still);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(to).unwrap();
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to, still) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&still));
                    thread::spawn(move || carry(from, to, &still));
                }
            }
        });
        Link { address, is_still }
    }

    fn stand_still(&self, is_still: bool) {
        self.is_still.store(is_still, Ordering::Relaxed);
    }
}

/// Carries bytes until one end closes.
fn carry(mut from: TcpStream, mut to: TcpStream, is_still: &AtomicBool) {
    let mut bytes = [0; 2_000];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        thread::sleep(
            Duration::from_secs(1) * u32::try_from(count).unwrap() / u32::try_from(BYTES_PER_SECOND).unwrap(),
        );
        while is_still.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(10));
        }
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Opens the help and closes it again, which nothing else may delay.
fn keys_answer(looking: &mut Looking) {
    let begun = Instant::now();
    looking.press("?");
    looking.wait_for("keys and signs");
    looking.press("\x1b");
    // What follows an escape at once is taken for a part of it.
    thread::sleep(Duration::from_millis(100));
    looking.until(|text| text.contains("0-9 screens"));
    assert!(begun.elapsed() < ANSWER_TIME_MAX, "keys took {:?}", begun.elapsed());
}

#[test]
fn over_a_slow_link_everything_is_drawn_keys_answer_and_what_is_old_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), CONFIG);
    let link = Link::to(&daemon);
    let mut looking = Looking::begin(&["--address", &link.address.to_string()]);
    looking.until(|text| text.contains("LIVE") && text.contains("psi io") && text.contains("CPUS"));
    keys_answer(&mut looking);
    looking.press("2");
    looking.until(|text| text.contains("processes 1-"));
    looking.press("3");
    looking.until(|text| text.contains("CGROUP") && !text.contains("reading"));
    looking.press("1");

    link.stand_still(true);
    let text = looking.until(|text| text.lines().next().unwrap().contains(" s old"));
    assert!(text.contains("LIVE"), "{text}");
    keys_answer(&mut looking);
    looking.press(" ");
    looking.until(|text| text.contains("PAUSED") && text.lines().next().unwrap().contains(" ago"));
    looking.press(" ");
    link.stand_still(false);
    looking.until(|text| text.contains("LIVE") && !text.lines().next().unwrap().contains(" s old"));
    looking.press("q");
    looking.wait_for_end();
}

#[test]
fn files_beside_a_daemon_say_how_old_their_newest_row_is() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), CONFIG);
    let flushed = command(&["flush", "--address", &daemon.address]).output().unwrap();
    assert!(flushed.status.success(), "{flushed:?}");
    let begun = Instant::now();
    let mut looking = Looking::begin(&["--data", daemon.data.to_str().unwrap()]);
    let age = |text: &str| {
        let header = text.lines().next().unwrap();
        let (_, rest) = header.split_once(" FILES ")?;
        rest.split_once(", ")?.1.split_once(" s old")?.0.parse::<u64>().ok()
    };
    looking.until(|text| age(text).is_some_and(|age| (2..=begun.elapsed().as_secs() + 2).contains(&age)));
    looking.press("q");
    looking.wait_for_end();
}
