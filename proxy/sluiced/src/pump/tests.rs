//! The bounds of one connection, without sockets. Its life is tested where it is driven: `event_loop/tests.rs`.

use super::*;

/// What tests of the event loop do to a connection.
impl Pump {
    /// From now on it speaks the test protocol, whatever policy says.
    pub(crate) fn speak_line(&mut self, worker: &mut Worker) {
        let Some(ends) = self.connection.ends.as_deref().copied() else { panic!("it has dialled") };
        let (snapshot, now) = (worker.shared.snapshot.load(), worker.shared.clock.now());
        let session = Session::open_line(ends.client, ends.destination, &mut worker.hot.cx(&snapshot, now));
        self.connection.session = Some(session);
        self.connection.phase = ConnectionState::Live;
    }

    /// The session has asked for an abort behind so many bytes and a FIN for the client.
    pub(crate) fn abort_behind(&mut self, bytes: usize) {
        self.connection.phase = ConnectionState::Aborted;
        self.connection.from_server.push(&vec![0; bytes], Vec::new);
        self.connection.from_server.finish = Finish::Wanted;
    }

    pub(crate) fn is_of(&self, client: std::net::SocketAddr) -> bool {
        self.connection.ends.as_ref().is_some_and(|ends| ends.client.0 == client)
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

fn connection() -> Connection {
    Connection {
        ends: None,
        session: None,
        judged: 0,
        phase: ConnectionState::Live,
        client: None,
        server: Server::NotDialled,
        from_client: Half::default(),
        from_server: Half::default(),
        timer: Timer::default(),
    }
}

#[test]
fn an_idle_connection_is_small() {
    let (all, of_the_session) = (size_of::<Pump>(), size_of::<Session>());
    assert!(all <= 512, "{all} bytes, {of_the_session} of them the session's");
}

/// Nothing is sent here; `splice` stands for bytes that are wanted.
#[test]
fn a_peer_is_read_until_more_than_the_bound_waits_for_it() {
    let mut connection = connection();
    connection.from_client.splice = 1;
    connection.from_server.push(&vec![0; QUEUE_BYTES_MAX], Vec::new);
    assert!(connection.may_take(Side::Client));
    connection.from_server.push(&[0], Vec::new);
    assert!(!connection.may_take(Side::Client));
    let _memory = connection.from_server.sent(1);
    assert!(connection.may_take(Side::Client));
}

#[test]
fn no_more_answers_are_made_once_more_than_the_bound_wait() {
    let mut connection = connection();
    connection.from_server.push(&vec![0; ANSWER_BYTES_MAX + 1], Vec::new);
    // Bytes of the server's are no answers of ours, and hold up nothing that the client sends.
    assert!(!connection.has_answers_enough(0));
    connection.from_server.own = true;
    assert!(connection.has_answers_enough(0));
    let _memory = connection.from_server.sent(1);
    assert!(!connection.has_answers_enough(0));
    assert!(connection.has_answers_enough(1));
    let _memory = connection.from_server.sent(ANSWER_BYTES_MAX);
    assert!(!connection.from_server.own);
}
