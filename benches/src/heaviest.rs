//! What the heaviest policies that are accepted can make a request cost, whose path is as hostile as it may be.

use crate::policies::{http_rules, is_accepted};
use policy_model::rule::HttpRule;

/// The most rules of one kind that a policy may have, and the path that leads through all of them and meets none.
#[derive(Debug)]
pub struct Heaviest {
    pub name: &'static str,
    pub rules: Vec<HttpRule>,
    pub path: String,
}

/// Of one kind: the rule by its number, the numbers of rules to try, and the path.
type Kind = (&'static str, fn(usize) -> String, &'static [usize], fn(usize) -> String);

const FEW: &[usize] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 20, 24];
const MANY: &[usize] = &[8, 30, 60, 120, 240, 360, 480, 960];

const KINDS: [Kind; 8] = [
    ("tables, one behind the other", |i| format!("/{}x?.*[ab]x", "a".repeat(i)), FEW, all_a),
    ("tables that are walked all over", |i| format!("/{}x?[ab]*a[ab]{{10}}x", "a".repeat(i)), FEW, any_ab),
    ("tables, read from the end", |i| format!("/{}.*[ab]", "a".repeat(i)), FEW, all_a),
    (
        "groups",
        |i| format!("/[^/]+/orders-{i}/[0-9]+(/.*)?"),
        MANY,
        |n| format!("/x/orders-{}", "1".repeat(n - 10)),
    ),
    (
        "what stands inside",
        |i| if i < 8 { format!("/.*{}.*", "a".repeat(i + 1)) } else { format!("/.*q{i}.*") },
        MANY,
        all_a,
    ),
    ("sets of one word", |i| format!("/{}x?.*-.{{{}}}x?", "a".repeat(i), 36 + i), FEW, dashes),
    (
        "sets of one word that jump",
        |i| format!("/{}x?.*-(a|-a?){{2}}[-a]{{20}}x", "a".repeat(i)),
        FEW,
        dashes,
    ),
    ("sets of two words", |i| format!("/{}x?.*-.{{{}}}x", "a".repeat(i), 100 + i), FEW, dashes),
];

/// None of them holds for a request, whatever its path.
pub fn heaviest(bytes: usize) -> impl Iterator<Item = Heaviest> {
    KINDS.into_iter().map(move |(name, rule, counts, path)| {
        let rules = |count| {
            let mut rules = http_rules(count, rule);
            rules.iter_mut().for_each(|rule| rule.matches.host = Some("elsewhere".into()));
            rules
        };
        let accepted = counts.iter().map(|count| rules(*count)).take_while(|rules| is_accepted(rules));
        Heaviest { name, rules: accepted.last().unwrap_or_default(), path: path(bytes) }
    })
}

/// Paths that consist of what readings differ in.
pub fn marked(bytes: usize) -> impl Iterator<Item = String> {
    const MARKS: [&str; 14] =
        ["/", "//", "/..", "/../", "/./", ";", "%2f", "%5c", "\\", "%3b", "%3f", "%23", "%20", "a"];
    let mut random = Random(1);
    (0..2_000).map(move |_| {
        // Few kinds each, some of them once, the rest again and again.
        let kinds: Vec<&str> = (0..1 + random.below(5)).map(|_| random.one_of(&MARKS)).collect();
        let rare: Vec<&str> = (0..random.below(4)).map(|_| random.one_of(&MARKS)).collect();
        let mut path = "/".to_owned();
        while path.len() + 3 < bytes - 12 {
            path += random.one_of(&kinds);
        }
        path += &rare.concat();
        while path.len() < bytes {
            path.push('a');
        }
        path
    })
}

struct Random(u64);

impl Random {
    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all.get(self.below(all.len())).copied().unwrap_or("/")
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % end
    }
}

fn all_a(bytes: usize) -> String {
    format!("/{}", "a".repeat(bytes - 1))
}

/// No run of 20 comes twice.
fn any_ab(bytes: usize) -> String {
    let mut random = 1_u64;
    let ab = std::iter::repeat_with(|| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if random >> 63 == 0 { 'a' } else { 'b' }
    });
    format!("/{}{}", "a".repeat(30), ab.take(bytes - 31).collect::<String>())
}

fn dashes(bytes: usize) -> String {
    format!("/{}{}", "a".repeat(30), "-".repeat(bytes - 31))
}
