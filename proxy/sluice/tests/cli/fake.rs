//! A daemon that answers what it was told to, and remembers what it was asked.

use crate::run::Place;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};

/// Method and target, and the body.
pub(crate) type Question = (String, String);

pub(crate) struct Fake {
    place: Place,
    questions: Receiver<Question>,
}

impl Fake {
    /// Answers every question with this.
    pub(crate) fn answering(status: u16, body: &str) -> Self {
        Self::raw(message(status, body))
    }

    /// Answers every question with these bytes, and hangs up.
    pub(crate) fn raw(answer: String) -> Self {
        Self::in_turn(vec![answer])
    }

    /// Answers the first question with the first, and all that follow the last with the last.
    pub(crate) fn in_turn(answers: Vec<String>) -> Self {
        let place = Place::new();
        let listener = UnixListener::bind(place.path("s")).unwrap();
        let (sender, questions) = channel();
        // Ends with the process: it waits for connections that do not come.
        drop(std::thread::spawn(move || {
            let last = answers.last().cloned().into_iter().cycle();
            for (stream, answer) in listener.incoming().zip(answers.into_iter().chain(last)) {
                let mut stream = stream.unwrap();
                let question = read(&stream);
                let _reader_is_gone = stream.write_all(answer.as_bytes());
                if sender.send(question).is_err() {
                    return;
                }
            }
        }));
        Self { place, questions }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        let _: &mut Command = command.args(["--socket", &self.place.path("s")]);
        command
    }

    pub(crate) fn sluice(&self, arguments: &[&str]) -> Output {
        self.place.without_path(self.command().args(arguments).output().unwrap())
    }

    /// What was asked since the last time.
    pub(crate) fn question(&self) -> Question {
        self.questions.recv().unwrap()
    }
}

pub(crate) fn message(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} Told\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn read(stream: &UnixStream) -> Question {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 2 {
        head.push(std::mem::take(&mut line));
    }
    let length = head.iter().find_map(|field| field.strip_prefix("content-length: ")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let (question, _version) = head[0].rsplit_once(' ').unwrap();
    (question.to_owned(), String::from_utf8(body).unwrap())
}
