//! The word that somebody probably meant.

/// The nearest of `words`, where it is near enough to be a slip of the keyboard.
pub(crate) fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    let tolerance = (length / 3).max(2).min(length.saturating_sub(1));
    words
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= tolerance)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions and replacements that turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        let mut next = vec![left];
        for (to, above) in b.chars().zip(row.iter().skip(1)) {
            let replaced = diagonal.saturating_add(usize::from(from != to));
            left = replaced.min(above.saturating_add(1)).min(left.saturating_add(1));
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(word: &str, words: &[&str], expect: Option<&str>) {
        assert_eq!(nearest(word, words.iter().copied()), expect);
    }

    #[test]
    fn slips_are_seen() {
        check("adresses", &["addresses", "labels"], Some("addresses"));
        check("lable", &["name", "labels"], Some("labels"));
        check("label", &["name", "labels"], Some("labels"));
        check("ebfp", &["ebpf", "none"], Some("ebpf"));
        check("epf", &["ebpf"], Some("ebpf"));
    }

    #[test]
    fn other_words_are_not() {
        check("colour", &["addresses", "labels"], None);
        check("", &["a"], None);
        check("x", &["a"], None);
    }

    #[test]
    fn distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
    }
}
