//! A stream that need not fit memory: its nodes have rows of their own, and those in use are in memory.
//!
//! ```text
//!  in the store    a row for each node, by the id that its ids are relative to; one row for all else (`facts`)
//!  in memory       those nodes that are in use; all else: length, ids, groups with what is pending
//!
//!  ids         0-0 ─────────────────────────────────────────────────────────────────────────────► greatest
//!  nodes            [ · ]  [ · ]  [ · ]      .    .    .    .    .      [ · ]  [ · ]  [ · ]
//!  covered     ├───────────────────────┤                                ├─────────────────────────┤
//! ```
//!
//! A node and not an entry has a row, because nodes are what a stream is made of and what it is trimmed by: a row is a
//! copy of one, some kilobytes of entries that came together and are read together.
//!
//! Guarantees: every node whose id is covered is in memory, so what is covered and not there does not exist; what has
//! changed is covered. A node's id is never used again in a stream, so one that is gone stays gone.

use super::Stream;
use super::id::StreamId;
use super::log::{Keep, Log};
use super::node::Node;
use crate::object::codec;
use crate::object::intervals::Intervals;
use crate::object::listpack::Listpack;
use crate::object::pages::{
    Bounds, Found, Kind, Lacking, Order, Pages, Rows, Span, Summary, VisitChange, Wanted, next_state,
};
use std::collections::BTreeSet;

/// Behind the greatest id.
const END: u128 = u128::MAX;

#[derive(Clone, Debug)]
pub struct LogPages {
    version: u64,
    /// How many there are, wherever.
    nodes: u64,
    /// Ids: every node with one of them is in memory.
    covered: Intervals<u128>,
    /// Nodes that differ from their rows.
    dirty: BTreeSet<StreamId>,
    /// Nodes that are no more, and may have rows.
    gone: BTreeSet<StreamId>,
    /// Those that the last flush has told the store of.
    told: BTreeSet<StreamId>,
    /// What was brought in last is of these ids.
    recent: (u128, u128),
    state: u64,
}

fn place_of(at: u128) -> Vec<u8> {
    at.to_be_bytes().to_vec()
}

fn at_place(place: &[u8]) -> Option<u128> {
    Some(u128::from_be_bytes(place.try_into().ok()?))
}

fn at(id: StreamId) -> u128 {
    // The greatest id shares a place with the one before it: an interval has an end.
    u128::from_be_bytes(id.to_bytes()).min(END - 1)
}

fn id_at(at: u128) -> StreamId {
    StreamId::from_bytes(at.to_be_bytes())
}

impl LogPages {
    fn new(version: u64, nodes: u64) -> LogPages {
        LogPages {
            version,
            nodes,
            covered: Intervals::default(),
            dirty: BTreeSet::new(),
            gone: BTreeSet::new(),
            told: BTreeSet::new(),
            recent: (0, 0),
            state: next_state(),
        }
    }

    /// Heap bytes, its own place not counted.
    pub fn bytes(&self) -> usize {
        let ids = self.dirty.len() + self.gone.len() + self.told.len();
        ids * 2 * size_of::<StreamId>() + self.covered.bytes()
    }

    pub fn nodes(&self) -> u64 {
        self.nodes
    }

    /// A node was added behind all others.
    pub fn note_new(&mut self, id: StreamId) {
        self.nodes += 1;
        self.covered.add(at(id), END);
        self.dirty.insert(id);
    }

    pub fn note_change(&mut self, id: StreamId) {
        self.dirty.insert(id);
    }

    pub fn note_gone(&mut self, id: StreamId) {
        self.nodes -= 1;
        self.dirty.remove(&id);
        self.gone.insert(id);
    }

    /// The interval of covered ids that this one is in.
    fn around(&self, id: u128) -> Option<(u128, u128)> {
        self.covered.around(id)
    }

    /// The node that an id is in, where it is not known: of what is covered there it is none.
    fn span_down(&self, id: u128) -> Span {
        Span {
            from: place_of(0),
            to: Some(place_of(self.around(id).map_or(id + 1, |(start, _)| start))),
            most: 1,
            order: Order::Down,
        }
    }

    /// No node is behind this one, which is in memory.
    pub fn is_last(&self, node: StreamId) -> bool {
        self.around(at(node)).is_some_and(|(_, end)| end == END)
    }

    fn expect(&self, known: bool) {
        assert!(known, "entries are brought in before they are asked for");
    }

    /// A walk goes from what it has seen to the next node, or to its end when there is none.
    pub fn expect_up(&self, from: StreamId, next: Option<StreamId>, to: StreamId) {
        let end = self.around(at(from)).map_or(0, |(_, end)| end);
        self.expect(self.nodes == 0 || at(next.unwrap_or(to)) < end);
    }

    /// The same, the other way. The node in which the walk ends begins at its end or before.
    pub fn expect_down(&self, from: StreamId, next: Option<StreamId>, to: StreamId) {
        let start = self.around(at(from)).map_or(END, |(start, _)| start);
        self.expect(
            self.nodes == 0
                || match next {
                    Some(next) => start <= at(next),
                    None => start == 0 || from <= to,
                },
        );
    }
}

impl Log {
    // ---- What commands ask --------------------------------------------------------------------------------------

    /// A command is about to look at what begins at an id: it was brought in.
    pub fn expect_from(&self, id: StreamId) {
        if let Some(pages) = &self.pages {
            pages.expect(self.knows_floor(pages, at(id)));
        }
    }

    /// The node that an id is in, or would be, is in memory, or known not to be there.
    fn knows_floor(&self, pages: &LogPages, id: u128) -> bool {
        pages.nodes == 0
            || pages.around(id).is_some_and(|(start, _)| {
                start == 0
                    || self
                        .nodes
                        .floor(id_at(id))
                        .is_some_and(|(node, _)| at(node) >= start)
            })
    }

    // ---- What is lacking ----------------------------------------------------------------------------------------

    /// Rows to read for about so many entries.
    fn rows_for(&self, pages: &LogPages, entries: usize) -> usize {
        let each = (self.len / pages.nodes.max(1)).max(1) as usize;
        (entries / each).saturating_add(2)
    }

    fn lacking_between(&self, pages: &LogPages, bounds: &Bounds, spans: &mut Vec<Span>) {
        let (from, to) = (at(bounds.from), at(bounds.to));
        if pages.nodes == 0 || from > to {
            return;
        }
        let (order, near, far) = match bounds.order {
            Order::Up => (Order::Up, from, to),
            Order::Down => (Order::Down, to, from),
        };
        if !self.knows_floor(pages, near) {
            spans.push(pages.span_down(near));
            if order == Order::Up {
                spans.push(self.span_up(pages, near, far, bounds.most));
            } else {
                spans[0].most = self.rows_for(pages, bounds.most);
            }
            return;
        }
        // proof: the floor is known, so either there are no nodes, which was looked at, or the id is covered.
        let (start, end) = pages.around(near).unwrap_or((near, near));
        if order == Order::Up {
            if end > far {
                return;
            }
            let inner = self.nodes.range(id_at(near), id_at(end - 1));
            let have = entries_of(inner.filter(|(id, _)| at(*id) > near), bounds.most);
            if have < bounds.most {
                spans.push(self.span_up(pages, end, far, bounds.most - have));
            }
        } else if start > 0 && !(start <= far && self.knows_floor(pages, far)) {
            let inner = self.nodes.range(id_at(start), id_at(near)).rev();
            // Of the node that the nearer bound is in there may be fewer.
            let have = entries_of(inner.skip(1), bounds.most);
            if have < bounds.most {
                spans.push(Span {
                    from: place_of(0),
                    to: Some(place_of(start)),
                    most: self.rows_for(pages, bounds.most - have),
                    order,
                });
            }
        }
    }

    fn span_up(&self, pages: &LogPages, from: u128, to: u128, entries: usize) -> Span {
        Span {
            from: place_of(from),
            to: (to < END - 1).then(|| place_of(to + 1)),
            most: self.rows_for(pages, entries),
            order: Order::Up,
        }
    }

    fn lacking_ids(&self, pages: &LogPages, ids: &[StreamId], spans: &mut Vec<Span>) {
        for id in ids {
            if !self.knows_floor(pages, at(*id)) {
                spans.push(pages.span_down(at(*id)));
            }
        }
    }

    /// What goes, and the first entries behind it.
    fn lacking_trim(&self, pages: &LogPages, keep: Keep, added: u64, spans: &mut Vec<Span>) {
        let (to, most) = match keep {
            Keep::Newest(most) => (StreamId::MAX, (self.len + added).saturating_sub(most)),
            Keep::From(id) if id > self.first_id => (id, u64::MAX),
            Keep::From(_) => return,
        };
        if most == 0 {
            return;
        }
        let bounds = |to, most: u64| Bounds {
            from: StreamId::ZERO,
            to,
            most: usize::try_from(most).unwrap_or(usize::MAX),
            order: Order::Up,
        };
        self.lacking_between(pages, &bounds(to, most.saturating_add(1)), spans);
        if let Keep::From(id) = keep
            && spans.is_empty()
        {
            let behind = Bounds {
                from: id,
                ..bounds(StreamId::MAX, 1)
            };
            self.lacking_between(pages, &behind, spans);
        }
    }

    // ---- What comes from the store ------------------------------------------------------------------------------

    fn bring_in_rows(&mut self, span: &Span, rows: &Rows) {
        let Some(mut pages) = self.pages.take() else {
            return;
        };
        let from = at_place(&span.from).unwrap_or(0);
        let to = span.to.as_deref().and_then(at_place).unwrap_or(END);
        for (place, value) in rows.iter() {
            let Some(node_at) = at_place(place) else { continue };
            let id = id_at(node_at);
            let is_gone = pages.gone.contains(&id) || pages.told.contains(&id);
            if is_gone || pages.around(node_at.min(END - 1)).is_some() {
                continue;
            }
            let list = Listpack::from_bytes(value.into()).ok();
            let node = list.and_then(|list| Node::from_listpack(list, id).ok());
            if let Some(node) = node {
                self.node_bytes += node.heap_bytes();
                self.nodes.insert(id, node);
            }
        }
        pages.covered.add(from, to);
        if self.nodes.len() as u64 == pages.nodes {
            pages.covered.add(0, END);
        }
        pages.recent = (from, to);
        self.pages = Some(pages);
    }

    /// Drops clean nodes of about so many entries, the oldest first.
    fn shed(&mut self, most: usize, spared: (u128, u128)) {
        let Some(mut pages) = self.pages.take() else {
            return;
        };
        let (mut left, mut going) = (most as u64, Vec::new());
        let mut nodes = self.nodes.iter().peekable();
        while let Some((id, node)) = nodes.next()
            && left > 0
        {
            let next = nodes.peek().map_or(END, |(id, _)| at(*id));
            let is_spared = spared.0 < next && at(id) < spared.1;
            if is_spared || pages.dirty.contains(&id) {
                continue;
            }
            going.push((id, next));
            left = left.saturating_sub(node.counts().0.max(1));
        }
        if !going.is_empty() {
            pages.state = next_state();
        }
        for (id, next) in going {
            pages.covered.remove(at(id), next);
            if let Some(node) = self.nodes.remove(id) {
                self.node_bytes -= node.heap_bytes();
            }
        }
        self.pages = Some(pages);
    }
}

/// Entries of nodes, counted until there are enough.
fn entries_of<'a>(nodes: impl Iterator<Item = (StreamId, &'a Node)>, enough: usize) -> usize {
    let mut count = 0;
    for (_, node) in nodes {
        count += node.counts().0 as usize;
        if count >= enough {
            break;
        }
    }
    count
}

/// As a collection that need not fit memory.
impl Stream {
    /// A stream none of whose nodes are in memory; none if what is said of it cannot be read.
    pub fn of_summary(summary: &Summary) -> Option<Stream> {
        let mut stream = codec::decode_stream_facts(&summary.facts).ok()?;
        let log = stream.log_mut();
        log.pages = Some(Box::new(LogPages::new(summary.version, summary.len)));
        if summary.len == 0 {
            log.cover_all();
        }
        Some(stream)
    }

    pub fn is_paged(&self) -> bool {
        self.log().pages.is_some()
    }

    /// One of more than a single node.
    pub fn can_be_paged(&self) -> bool {
        !self.is_paged() && self.log().node_count() > 1
    }

    /// Makes it paged; all of it is in memory still, and none of it in the store.
    pub fn page(&mut self, version: u64) {
        if self.can_be_paged() {
            let log = self.log_mut();
            log.pages = Some(Box::new(LogPages::new(version, log.nodes.len() as u64)));
            log.cover_all();
        }
    }

    /// Makes a paged stream one that is kept whole; all of it is in memory.
    pub fn unpage(&mut self) {
        assert!(
            !self.is_paged() || self.is_whole(),
            "all entries are brought in before they are taken"
        );
        self.log_mut().pages = None;
    }
}

impl Log {
    fn cover_all(&mut self) {
        if let Some(pages) = &mut self.pages {
            pages.covered.add(0, END);
        }
    }
}

const UNPAGED: &str = "asked of a paged stream only";

impl Stream {
    fn log_pages(&self) -> &LogPages {
        // proof: `Object::pages` gives streams out as pages only where they are.
        self.log().pages.as_deref().expect(UNPAGED)
    }
}

impl Pages for Stream {
    fn summary(&self) -> Summary {
        let pages = self.log_pages();
        Summary {
            kind: Kind::Stream,
            version: pages.version,
            origin: 0,
            len: pages.nodes,
            facts: codec::encode_stream_facts(self),
        }
    }

    fn order(&self) -> (Kind, u64) {
        (Kind::Stream, 0)
    }

    fn version(&self) -> u64 {
        self.log_pages().version
    }

    fn state(&self) -> u64 {
        self.log_pages().state
    }

    fn is_whole(&self) -> bool {
        self.log_pages().nodes == self.log().nodes.len() as u64
    }

    fn clean_len(&self) -> usize {
        let (log, pages) = (self.log(), self.log_pages());
        let clean = log.nodes.len().saturating_sub(pages.dirty.len());
        clean * (log.len / pages.nodes.max(1)).max(1) as usize
    }

    /// Of an entry: those that come one after the other change the same node.
    fn element_size(&self) -> usize {
        let (log, pages) = (self.log(), self.log_pages());
        let each = (log.len / pages.nodes.max(1)).max(1) as usize;
        log.node_bytes / log.nodes.len().max(1) / each
    }

    fn lacking(&self, wanted: &Wanted<'_>) -> Option<Lacking> {
        let (log, pages) = (self.log(), self.log_pages());
        let mut spans = Vec::new();
        match wanted {
            _ if self.is_whole() => {}
            Wanted::Between(bounds) => log.lacking_between(pages, bounds, &mut spans),
            Wanted::Ids(ids) => log.lacking_ids(pages, ids, &mut spans),
            Wanted::Trim(keep, added) => log.lacking_trim(pages, *keep, *added, &mut spans),
            Wanted::All => {
                for (from, to) in pages.covered.gaps(0, END) {
                    spans.push(Span {
                        from: place_of(from),
                        to: (to < END).then(|| place_of(to)),
                        most: usize::MAX,
                        order: Order::Up,
                    });
                }
            }
            _ => {}
        }
        (!spans.is_empty()).then_some(Lacking::Spans(spans))
    }

    fn bring_in(&mut self, found: Found, shed: usize) {
        let Found::Spans(spans) = found else { return };
        for (span, rows) in &spans {
            self.log_mut().bring_in_rows(span, rows);
        }
        if shed > 0 {
            let recent = self.log_pages().recent;
            self.log_mut().shed(shed, recent);
        }
    }

    fn shed(&mut self, most: usize) {
        self.log_mut().shed(most, (0, 0));
    }

    fn each(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        assert!(
            self.is_whole(),
            "all entries are brought in before they are visited"
        );
        for (id, node) in self.log().nodes.iter() {
            visit(&id.to_bytes(), node.listpack().as_bytes());
        }
    }

    fn each_change(&self, visit: &mut VisitChange<'_>) {
        let (log, pages) = (self.log(), self.log_pages());
        for id in &pages.dirty {
            if let Some(node) = log.nodes.get(*id) {
                visit(&id.to_bytes(), Some(node.listpack().as_bytes()));
            }
        }
        for id in &pages.gone {
            visit(&id.to_bytes(), None);
        }
    }

    fn settle_changes(&mut self) {
        if let Some(pages) = &mut self.log_mut().pages {
            if !pages.told.is_empty() {
                pages.state = next_state();
            }
            pages.told = std::mem::take(&mut pages.gone);
            pages.dirty.clear();
        }
    }
}

#[cfg(test)]
mod tests;
