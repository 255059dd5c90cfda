//! Tries from the literal starts of rules.

use super::pattern::{Group, Patterns};
use super::short;
use super::start::{Rest, Start};
use super::trie::{
    Behind, Candidate, Candidates, Children, End, Label, Node, STRIDE_MAX, Trie, common, following, hash, key,
};
use regex_syntax::hir::Hir;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

/// Patterns with one start are looked at in groups of this many.
const GROUP_MIN: usize = 24;
const GROUP_MAX: usize = 40;
/// Behind one pattern in so many a group may end.
const GROUP_END: u64 = 8;

/// Collects rules by the literal start of their path.
#[derive(Debug, Default)]
pub(super) struct Builder {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    start: Start,
    rule: Candidate,
}

impl Entry {
    fn rest(&self, at: usize) -> &[u8] {
        self.start.literal.get(at..).unwrap_or_default()
    }
}

impl Builder {
    pub(super) fn add(&mut self, start: Start, rule: Candidate) {
        self.entries.push(Entry { start, rule });
    }

    /// The trie, and the rules whose patterns could not be built.
    pub(super) fn finish(mut self, patterns: &mut Patterns) -> (Trie, Vec<(Candidate, String)>) {
        self.entries.sort_by(|a, b| a.start.literal.cmp(&b.start.literal));
        let mut growing = Growing::new(patterns);
        let mut todo = VecDeque::new();
        let mut root = Node { first: lowest(&self.entries), ..Node::NOBODY };
        growing.grow(&mut root, &self.entries, 0, &mut todo);
        while let Some(Branch { slot, entries, at }) = todo.pop_front() {
            let mut node = growing.nodes.get(slot).copied().unwrap_or(Node::NOBODY);
            growing.grow(&mut node, entries, at, &mut todo);
            growing.nodes.get_mut(slot).into_iter().for_each(|place| *place = node);
        }
        growing.finish(root)
    }
}

/// Entries that are alike up to `at`, and where the node lies that is to stand for them.
#[derive(Clone, Copy)]
struct Branch<'a> {
    slot: usize,
    entries: &'a [Entry],
    at: usize,
}

struct Growing<'p> {
    patterns: &'p mut Patterns,
    nodes: Vec<Node>,
    sorted: Vec<u32>,
    ends: Vec<End>,
    others: Vec<Candidate>,
    members: Vec<Candidates>,
    groups: Vec<Arc<Group>>,
    /// Where each of them lies.
    known: HashMap<*const Group, u32>,
    bytes: Vec<u8>,
    failed: Vec<(Candidate, String)>,
    has_lines: bool,
}

impl<'p> Growing<'p> {
    fn new(patterns: &'p mut Patterns) -> Self {
        Self {
            patterns,
            nodes: Vec::new(),
            sorted: Vec::new(),
            ends: Vec::new(),
            // The list of those who have no others.
            others: vec![Candidate::NONE],
            members: Vec::new(),
            groups: Vec::new(),
            known: HashMap::new(),
            bytes: Vec::new(),
            failed: Vec::new(),
            has_lines: false,
        }
    }

    fn grow<'a>(
        &mut self,
        node: &mut Node,
        entries: &'a [Entry],
        at: usize,
        todo: &mut VecDeque<Branch<'a>>,
    ) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        // They are sorted, so what the first and the last begin with, all do.
        let length = common(first.rest(at), last.rest(at));
        let end = at + length;
        let own = entries.partition_point(|entry| entry.start.literal.len() <= end);
        let (own, below) = entries.split_at(own);
        node.label = self.label(first.rest(at).get(..length).unwrap_or_default());
        node.children = self.children(below, end, todo);
        let mut ends = self.ends(own).into_iter();
        node.end = ends.next().unwrap_or(node.end);
        let start = self.ends.len();
        self.ends.extend(ends);
        node.more_ends = (short(start), short(self.ends.len() - start));
    }

    fn label(&mut self, label: &[u8]) -> Label {
        let start = short(self.bytes.len());
        let head = key(label, 0, label.len());
        if head.is_none() {
            self.bytes.extend(label);
        }
        Label { head: head.unwrap_or(0), length: short(label.len()), start }
    }

    fn children<'a>(&mut self, below: &'a [Entry], at: usize, todo: &mut VecDeque<Branch<'a>>) -> Children {
        let shortest = below.iter().map(|entry| entry.rest(at).len()).min().unwrap_or(0);
        let stride = shortest.min(STRIDE_MAX);
        let key = |entry: &Entry| key(&entry.start.literal, at, stride).unwrap_or(0);
        let branches: Vec<&[Entry]> = below.chunk_by(|a, b| key(a) == key(b)).collect();
        let children = Children {
            first: short(self.sorted.len()),
            count: short(branches.len()),
            stride: u8::try_from(stride).unwrap_or(0),
        };
        let (start, length) = children.table();
        self.nodes.resize(start + length, Node::NOBODY);
        for entries in branches {
            let key = entries.first().map_or(0, key);
            let mut slot = hash(key, length);
            while self.nodes.get(start + slot).is_some_and(Node::is_somebody) {
                slot = following(slot, length);
            }
            let slot = start + slot;
            let node = Node { key, first: lowest(entries), ..Node::NOBODY };
            self.nodes.get_mut(slot).into_iter().for_each(|place| *place = node);
            self.sorted.push(short(slot));
            todo.push_back(Branch { slot, entries, at: at + stride });
        }
        children
    }

    fn ends(&mut self, entries: &[Entry]) -> Vec<End> {
        let mut ends = Vec::new();
        for (rest, behind) in
            [(Rest::Anything, Behind::Anything), (Rest::Line, Behind::Line), (Rest::Nothing, Behind::Nothing)]
        {
            let rules = self.candidates(entries.iter().filter(|entry| entry.start.rest == rest));
            ends.push(End { behind, rules });
        }
        self.groups(entries, &mut ends);
        ends.retain(|end| end.rules.first != Candidate::NONE);
        ends.sort_by_key(|end| end.rules.first);
        self.has_lines |= ends.iter().any(|end| end.behind == Behind::Line);
        ends
    }

    /// The rules, up to the first that nothing can hold back: it hides those behind it.
    fn candidates<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>) -> Candidates {
        let mut rules: Vec<Candidate> = entries.map(|entry| entry.rule).collect();
        rules.sort();
        let seen = rules.iter().position(|rule| rule.is_certain()).map_or(rules.len(), |certain| certain + 1);
        let mut rules = rules.into_iter().take(seen);
        let first = rules.next().unwrap_or(Candidate::NONE);
        let start = self.others.len();
        self.others.extend(rules);
        if self.others.len() == start {
            return Candidates { first, others: 0 };
        }
        self.others.push(Candidate::NONE);
        Candidates { first, others: short(start) }
    }

    /// Equal patterns are one, and they are grouped in the order of their first rules.
    fn groups(&mut self, entries: &[Entry], ends: &mut Vec<End>) {
        let mut by_text: BTreeMap<String, (&Hir, Vec<&Entry>)> = BTreeMap::new();
        for entry in entries {
            if let Rest::Pattern(hir) = &entry.start.rest {
                by_text.entry(hir.to_string()).or_insert((hir, Vec::new())).1.push(entry);
            }
        }
        let mut all: Vec<Alike<'_>> =
            by_text.into_iter().map(|(text, (hir, entries))| Alike { text, hir, entries }).collect();
        all.sort_by_key(Alike::first);
        let mut rest = all.as_slice();
        while let Some((group, behind)) =
            rest.split_at_checked(group_length(rest)).filter(|_| !rest.is_empty())
        {
            ends.push(self.group(group));
            rest = behind;
        }
    }

    fn group(&mut self, all: &[Alike<'_>]) -> End {
        let hirs: Vec<&Hir> = all.iter().map(|alike| alike.hir).collect();
        let group = self.patterns.group(&hirs);
        for (pattern, message) in group.failed() {
            let entries = all.get(*pattern).into_iter().flat_map(|alike| &alike.entries);
            self.failed.extend(entries.map(|entry| (entry.rule, message.clone())));
        }
        let place = *self.known.entry(Arc::as_ptr(&group)).or_insert(short(self.groups.len()));
        if place == short(self.groups.len()) {
            self.groups.push(group);
        }
        if let [one] = all {
            let rules = self.candidates(one.entries.iter().copied());
            return End { behind: Behind::Pattern(place), rules };
        }
        let start = self.members.len();
        for alike in all {
            let rules = self.candidates(alike.entries.iter().copied());
            self.members.push(rules);
        }
        let first = all.first().map_or(Candidate::NONE, Alike::first);
        End { behind: Behind::Patterns(place), rules: Candidates { first, others: short(start) } }
    }

    fn finish(self, root: Node) -> (Trie, Vec<(Candidate, String)>) {
        let trie = Trie {
            root,
            nodes: self.nodes.into(),
            sorted: self.sorted.into(),
            ends: self.ends.into(),
            others: self.others.into(),
            members: self.members.into(),
            groups: self.groups.into(),
            bytes: self.bytes.into(),
            has_lines: self.has_lines,
        };
        (trie, self.failed)
    }
}

fn lowest(entries: &[Entry]) -> Candidate {
    entries.iter().map(|entry| entry.rule).min().unwrap_or(Candidate::NONE)
}

/// Where a group ends is up to its patterns: one that comes or goes changes its own group, and those behind it
/// are found again as they were.
fn group_length(all: &[Alike<'_>]) -> usize {
    let within = all.get(..GROUP_MAX).unwrap_or(all);
    let end = within.iter().skip(GROUP_MIN - 1).position(Alike::may_end);
    end.map_or(within.len(), |end| GROUP_MIN + end)
}

/// Entries with one pattern.
struct Alike<'a> {
    text: String,
    hir: &'a Hir,
    entries: Vec<&'a Entry>,
}

impl Alike<'_> {
    fn first(&self) -> Candidate {
        self.entries.iter().map(|entry| entry.rule).min().unwrap_or(Candidate::NONE)
    }

    fn may_end(&self) -> bool {
        let mut hasher = DefaultHasher::new();
        hasher.write(self.text.as_bytes());
        hasher.finish().is_multiple_of(GROUP_END)
    }
}
