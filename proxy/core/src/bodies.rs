//! Bodies under way, in memory that is borrowed from the worker: a connection holds some only while a body is incomplete.

use parsers::http1::Body;

/// Memory of bodies that no connection needs at the moment.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the boxes are what is recycled")]
pub(crate) struct SpareBodies(Vec<Box<Body>>);

impl SpareBodies {
    const BODIES_MAX: usize = 64;

    pub(crate) fn keep(&mut self, body: Body) -> Box<Body> {
        match self.0.pop() {
            Some(mut place) => {
                *place = body;
                place
            }
            None => Box::new(body),
        }
    }

    pub(crate) fn give(&mut self, place: Box<Body>) {
        if self.0.len() < Self::BODIES_MAX {
            self.0.push(place);
        }
    }
}
