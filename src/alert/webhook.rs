//! The webhook notifier: it POSTs each notification as a JSON object.

use std::fmt;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use serde::Serialize;

use super::notification::Notification;

/// How often a notification is tried before it is lost, at any pause.
const TRIES_MAX: usize = 1_000;

/// The longest pause between two tries, apart from its random part, which may double it.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(30);

/// The longest time that a notification may be tried for.
pub const GIVE_UP_AFTER_MAX: Duration = Duration::from_hours(24);

/// The longest time that one try may take.
pub const TIMEOUT_MAX: Duration = Duration::from_mins(1);

/// The most headers a webhook adds.
pub const HEADERS_MAX: usize = 32;

/// A webhook as written in the settings.
#[derive(Clone, PartialEq)]
pub struct WebhookSettings {
    /// Where to post: `http://…` or `https://…`.
    pub url: String,
    /// How long one try may take, including the connection.
    pub timeout: Duration,
    /// Headers to add, such as `Authorization`.
    pub headers: Vec<(String, String)>,
    /// How long to wait before the second try. The wait doubles with each try, up to 30 s, and a random part of it is added.
    pub retry_delay: Duration,
    /// How old a notification may be when it is tried again. Each is tried once at least.
    pub give_up_after: Duration,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        WebhookSettings {
            url: String::new(),
            timeout: Duration::from_secs(10),
            headers: Vec::new(),
            retry_delay: Duration::from_secs(1),
            give_up_after: Duration::from_mins(10),
        }
    }
}

impl fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Header values and the URL's path are often secrets.
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("WebhookSettings")
            .field("timeout", &self.timeout)
            .field("headers", &names)
            .finish_non_exhaustive()
    }
}

/// The key of a setting that is wrong, and what is wrong with it and what would be right.
pub(super) type Problem = (&'static str, String);

/// Checks a webhook's settings without making it.
pub(super) fn check(settings: &WebhookSettings) -> Result<(), Problem> {
    parts(settings).map(drop)
}

/// A webhook that can be posted to.
#[derive(Debug)]
pub(super) struct Webhook {
    client: Client,
    url: Url,
    headers: HeaderMap,
    host: String,
    retry_delay: Duration,
    give_up_after: Duration,
}

/// Why a notification was not delivered.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("write the notification as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("post to the webhook: {}", chain(.0))]
    Transport(#[from] reqwest::Error),
    #[error("post to the webhook: it answered {0}")]
    Refused(StatusCode),
}

/// The body of a POST: the notification's fields and the host's name.
#[derive(Serialize)]
struct Body<'a> {
    host: &'a str,
    #[serde(flatten)]
    notification: &'a Notification,
}

impl Webhook {
    pub(super) fn new(settings: &WebhookSettings, host: &str) -> Result<Self, Problem> {
        let (url, headers) = parts(settings)?;
        // An error means that the process has a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .timeout(settings.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("kymo/", env!("CARGO_PKG_VERSION")))
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|error| ("url", chain(&error)))?;
        Ok(Webhook {
            client,
            url,
            headers,
            host: host.into(),
            retry_delay: settings.retry_delay,
            give_up_after: settings.give_up_after,
        })
    }

    /// Posts `notification`, which is `age` old, again and again until it is older than `give_up_after`. Calls `failed` after
    /// each try that is followed by another.
    pub(super) async fn post(
        &self,
        notification: &Notification,
        age: Duration,
        mut failed: impl FnMut(&PostError),
    ) -> Result<(), PostError> {
        let body = serde_json::to_vec(&Body { host: &self.host, notification })?;
        let delays = ExponentialBuilder::new()
            .with_min_delay(self.retry_delay)
            .with_max_delay(RETRY_DELAY_MAX.max(self.retry_delay))
            .with_jitter()
            .with_max_times(TRIES_MAX - 1)
            .with_total_delay(Some(self.give_up_after.saturating_sub(age)));
        (|| self.post_once(body.clone()))
            .retry(delays)
            .when(PostError::may_pass)
            .notify(|error, delay| {
                tracing::debug!(%error, "posting again after {delay:?}");
                failed(error);
            })
            .await
    }

    async fn post_once(&self, body: Vec<u8>) -> Result<(), PostError> {
        let request = self.client.post(self.url.clone()).headers(self.headers.clone()).body(body);
        // The URL may hold a secret, and an error is logged.
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(PostError::Refused(status)) }
    }
}

impl PostError {
    /// Whether the same request may succeed later.
    fn may_pass(&self) -> bool {
        match self {
            PostError::Json(_) => false,
            PostError::Transport(_) => true,
            PostError::Refused(status) => {
                status.is_server_error()
                    || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(status)
            }
        }
    }
}

fn parts(settings: &WebhookSettings) -> Result<(Url, HeaderMap), Problem> {
    let url = Url::parse(&settings.url)
        .map_err(|error| ("url", format!("{error}; write a URL such as https://example.org/alerts")))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(("url", format!("has the scheme {:?}; write http or https", url.scheme())));
    }
    if settings.timeout.is_zero() || settings.timeout > TIMEOUT_MAX {
        return Err(("timeout", format!("is {:?}; it must be above 0 and at most {TIMEOUT_MAX:?}", settings.timeout)));
    }
    if settings.retry_delay > TIMEOUT_MAX {
        return Err(("retry_delay", format!("is {:?}; it must be at most {TIMEOUT_MAX:?}", settings.retry_delay)));
    }
    if settings.give_up_after > GIVE_UP_AFTER_MAX {
        let found = settings.give_up_after;
        return Err(("give_up_after", format!("is {found:?}; it must be at most {GIVE_UP_AFTER_MAX:?}")));
    }
    if settings.headers.len() > HEADERS_MAX {
        return Err(("headers", format!("are {}; at most {HEADERS_MAX} are allowed", settings.headers.len())));
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (header, value) in &settings.headers {
        let key: HeaderName = header.parse().map_err(|_| ("headers", format!("{header:?} is not a header's name")))?;
        let mut value: HeaderValue =
            value.parse().map_err(|_| ("headers", format!("the value of {header:?} is not visible ASCII")))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok((url, headers))
}

/// The error with its causes: reqwest's own text leaves them out.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::alert::notification::tests::notification;
    use crate::alert::notify::{Deliverer, LOG, NotifierKind, NotifierSettings};
    use crate::alert::state::Transition;

    /// A receiver on loopback that answers each request with the next status, and all further ones with the last.
    /// Returns its URL and the (request head, body) pairs.
    async fn receiver(statuses: &'static [u16]) -> (String, UnboundedReceiver<(String, Value)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (sender, requests) = unbounded_channel();
        tokio::spawn(async move {
            let mut answered = 0;
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    stream.read_line(&mut line).await.unwrap();
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    if line.trim().is_empty() {
                        break;
                    }
                    head.push_str(&line);
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.unwrap();
                let status = statuses[answered.min(statuses.len() - 1)];
                answered += 1;
                let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                if sender.send((head, serde_json::from_slice(&body).unwrap())).is_err() {
                    return;
                }
            }
        });
        (url, requests)
    }

    fn hook(url: &str) -> NotifierSettings {
        let headers = vec![("Authorization".into(), "Bearer s3cret".into())];
        let (retry_delay, give_up_after) = (Duration::from_millis(1), Duration::from_millis(100));
        let settings = WebhookSettings { url: url.into(), headers, retry_delay, give_up_after, ..Default::default() };
        NotifierSettings { name: "hook".into(), kind: NotifierKind::Webhook(settings) }
    }

    #[tokio::test]
    async fn a_failing_receiver_is_tried_again_and_order_is_kept() {
        let (url, mut requests) = receiver(&[503, 429, 200]).await;
        let (outbox, deliverer) = Deliverer::new(vec![hook(&url)], "alpha").unwrap();
        outbox.send("hook", &Arc::new(notification("busy", Transition::Firing)));
        outbox.send("hook", &Arc::new(notification("busy", Transition::Resolved)));
        deliverer.run(async {}, Duration::from_mins(1)).await;
        assert_eq!((outbox.sent(), outbox.lost()), (2, 0));
        // It failed, and does no more.
        assert_eq!(outbox.failing(), []);

        let mut states = Vec::new();
        while let Ok((head, body)) = requests.try_recv() {
            assert!(head.starts_with("POST /hook HTTP/1.1"), "{head}");
            assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
            assert!(head.contains("Bearer s3cret"), "{head}");
            assert_eq!((&body["host"], &body["labels"]["interface"]), (&"alpha".into(), &"eth0".into()));
            states.push(body["state"].as_str().unwrap().to_owned());
        }
        assert_eq!(states, ["firing", "firing", "firing", "resolved"]);
    }

    #[tokio::test]
    async fn what_cannot_be_delivered_is_lost_and_counted() {
        let (refusing, mut refused) = receiver(&[400]).await;
        let (failing, mut failed) = receiver(&[500]).await;
        let mut other = hook(&failing);
        other.name = "other".into();
        let (outbox, deliverer) = Deliverer::new(vec![hook(&refusing), other], "alpha").unwrap();
        outbox.send("hook", &Arc::new(notification("busy", Transition::Firing)));
        outbox.send("other", &Arc::new(notification("busy", Transition::Firing)));
        deliverer.run(async {}, Duration::from_mins(1)).await;
        assert_eq!((outbox.sent(), outbox.lost(), outbox.waiting().len()), (0, 2, 0));
        // What is refused for good is not repeated. The pauses of the other grow: 1 ms, 2 ms and so on fit six times.
        let count = |requests: &mut UnboundedReceiver<_>| std::iter::from_fn(|| requests.try_recv().ok()).count();
        let counted = (count(&mut refused), count(&mut failed));
        assert!(counted.0 == 1 && (5..=7).contains(&counted.1), "{counted:?}");
        let failing = outbox.failing();
        let said: Vec<_> = failing.iter().map(|one| (one.name.as_str(), one.error.as_str())).collect();
        let answered = |status: &str| format!("post to the webhook: it answered {status}");
        let (bad_request, error) = (answered("400 Bad Request"), answered("500 Internal Server Error"));
        assert_eq!(said, [("hook", bad_request.as_str()), ("other", error.as_str())]);
    }

    #[tokio::test]
    async fn what_is_tried_for_long_is_said_meanwhile_and_holds_back_no_other_notifier() {
        let (working, mut requests) = receiver(&[200]).await;
        // Nothing listens there.
        let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let settings = |name: &str, url: &str| {
            let settings = WebhookSettings { url: url.into(), ..WebhookSettings::default() };
            NotifierSettings { name: name.into(), kind: NotifierKind::Webhook(settings) }
        };
        let notifiers = vec![settings("dead", &format!("http://{nowhere}/secret")), settings("working", &working)];
        let (outbox, deliverer) = Deliverer::new(notifiers, "alpha").unwrap();
        for name in ["dead", "dead", "working", "working"] {
            outbox.send(name, &Arc::new(notification("busy", Transition::Firing)));
        }
        let watched = outbox.clone();
        let told = async move {
            while watched.sent() < 2 || watched.failing().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let failing = watched.failing();
            assert_eq!((failing.len(), failing[0].name.as_str(), failing[0].waiting), (1, "dead", 2));
            assert!(failing[0].error.contains("refused") && !failing[0].error.contains("secret"), "{failing:?}");
        };
        tokio::time::timeout(Duration::from_mins(1), deliverer.run(told, Duration::ZERO)).await.unwrap();
        // They wait for the next start.
        let waiting: Vec<_> = outbox.waiting().into_iter().map(|(name, _)| name).collect();
        assert_eq!((outbox.sent(), outbox.lost(), waiting), (2, 0, vec!["dead".to_owned(); 2]));
        assert!(requests.try_recv().is_ok() && requests.try_recv().is_ok());
    }

    #[tokio::test]
    async fn a_receiver_that_hangs_delays_neither_the_log_nor_the_end() {
        // Accepts in the kernel's backlog and never answers.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        let (outbox, deliverer) = Deliverer::new(vec![hook(&url)], "alpha").unwrap();
        for _ in 0..3 {
            outbox.send("hook", &Arc::new(notification("busy", Transition::Firing)));
            outbox.send(LOG, &Arc::new(notification("busy", Transition::Firing)));
        }
        let watched = outbox.clone();
        let logged = async move {
            while watched.sent() < 3 {
                tokio::task::yield_now().await;
            }
        };
        let run = deliverer.run(logged, Duration::from_millis(10));
        tokio::time::timeout(Duration::from_mins(1), run).await.expect("bounded by the grace");
        assert_eq!((outbox.sent(), outbox.lost(), outbox.waiting().len()), (3, 0, 3));
    }

    /// What makes settings wrong, and how the error begins.
    type Case = (fn(&mut WebhookSettings), &'static str);

    #[test]
    fn wrong_settings_are_named() {
        let problem = |change: fn(&mut WebhookSettings)| {
            let mut webhook = WebhookSettings { url: "https://example.org/x".into(), ..WebhookSettings::default() };
            change(&mut webhook);
            let settings = NotifierSettings { name: "hook".into(), kind: NotifierKind::Webhook(webhook) };
            settings.check().map_err(|error| error.to_string())
        };
        assert_eq!(problem(|_| {}), Ok(()));
        let cases: [Case; 7] = [
            (|webhook| webhook.url = "example.org".into(), "url: relative URL without a base"),
            (|webhook| webhook.url = "ftp://example.org".into(), "url: has the scheme \"ftp\"; write http or https"),
            (|webhook| webhook.timeout = Duration::ZERO, "timeout: is 0ns"),
            (|webhook| webhook.retry_delay = Duration::from_secs(61), "retry_delay: is 61s"),
            (|webhook| webhook.give_up_after = Duration::from_hours(25), "give_up_after: is 90000s"),
            (|webhook| webhook.headers = vec![("a b".into(), "c".into())], "headers: \"a b\" is not a header's name"),
            (|webhook| webhook.headers = vec![("a".into(), "\n".into())], "headers: the value of \"a\""),
        ];
        for (change, expected) in cases {
            let problem = problem(change).unwrap_err();
            assert!(problem.starts_with(&format!("notifier \"hook\": {expected}")), "{problem}");
        }
    }
}
