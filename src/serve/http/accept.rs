//! The header `Accept`: which media types a client takes, and which it likes best.

/// What a client says of media types: a name such as `text/csv`, `text/*` or `*/*`, and how much it likes it, from 0 to 1.
type Liking<'a> = (&'a str, f32);

/// The index of the type in `offered` that the client likes best: of equals the one that it names first, then the first one. `None`
/// if it takes none of them. No header takes all.
pub(super) fn best(accept: &str, offered: &[&str]) -> Option<usize> {
    let likings: Vec<Liking<'_>> = accept.split(',').filter_map(liking).collect();
    if likings.is_empty() {
        return Some(0);
    }
    let mut best: Option<(f32, usize, usize)> = None;
    for (index, name) in offered.iter().enumerate() {
        // The most precise name counts.
        let fitting =
            likings.iter().enumerate().filter_map(|(at, (range, likes))| Some((precision(range, name)?, at, *likes)));
        let Some((precision, at, likes)) = fitting.max_by_key(|(precision, at, _)| (*precision, usize::MAX - at))
        else {
            continue;
        };
        let at = if precision == EXACT { at } else { usize::MAX };
        let is_better = best.is_none_or(|(most, first, _)| likes > most || (likes >= most && at < first));
        if likes > 0.0 && is_better {
            best = Some((likes, at, index));
        }
    }
    best.map(|(_, _, index)| index)
}

const EXACT: u8 = 2;

/// How precisely a name in the header names a type, if it does.
fn precision(range: &str, name: &str) -> Option<u8> {
    let of_kind = || {
        range
            .strip_suffix("/*")
            .zip(name.split_once('/'))
            .is_some_and(|(kind, (own, _))| kind.eq_ignore_ascii_case(own))
    };
    if range.eq_ignore_ascii_case(name) {
        Some(EXACT)
    } else if of_kind() {
        Some(1)
    } else {
        (range == "*/*").then_some(0)
    }
}

fn liking(one: &str) -> Option<Liking<'_>> {
    let mut parts = one.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let quality = parts.filter_map(|part| part.split_once('=')).find(|(key, _)| key.trim().eq_ignore_ascii_case("q"));
    // A number that cannot be read is as none.
    let likes =
        quality.and_then(|(_, value)| value.trim().parse::<f32>().ok()).filter(|likes| (0.0..=1.0).contains(likes));
    Some((name, likes.unwrap_or(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_likes_best_is_chosen() {
        let offered = ["application/json", "text/csv", "application/octet-stream"];
        for (accept, wanted) in [
            ("", Some(0)),
            ("*/*", Some(0)),
            ("text/html, text/csv;q=0.5", Some(1)),
            ("application/json;q=0.2, text/csv;q=0.9", Some(1)),
            ("text/csv, application/json", Some(1)),
            ("TEXT/CSV", Some(1)),
            ("text/*", Some(1)),
            ("*/*;q=0.1, text/*;q=0.5", Some(1)),
            ("text/csv, */*", Some(1)),
            ("*/*, application/json;q=0", Some(1)),
            ("*/*, application/json;q=0, text/*;q=0", Some(2)),
            ("text/csv; header=present; Q=0.3, application/octet-stream ;q = 0.4", Some(2)),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Some(0)),
            ("text/csv;q=much", Some(1)),
            ("text/html", None),
            ("text/csv;q=0", None),
            ("nonsense", None),
        ] {
            assert_eq!(best(accept, &offered), wanted, "{accept}");
        }
    }
}
