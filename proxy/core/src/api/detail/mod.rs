//! What records say beyond who, when and why: a variant and a file for each protocol that is read.
//!
//! A file has all that is said of its protocol: how a record is rendered, parsed, told in words and filtered.

mod http;

use crate::record::Detail;
use serde::{Deserialize, Serialize};

pub use http::HttpView;

/// A variant's name is the `kind` of its records, and its fields stand beside that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum DetailView {
    #[default]
    #[serde(rename = "connection")]
    Connection,
    #[serde(rename = "http-request")]
    Http(HttpView),
    /// Reached without a look inside: by the kernel, or where a direct flow was cut.
    #[serde(rename = "l4")]
    L4,
    /// Of a newer daemon.
    #[serde(rename = "unknown", other)]
    Unknown,
}

/// What is asked of a record's detail. Everything that is given must hold; of several methods with commas between them, one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DetailFilter<'a> {
    pub kind: Option<&'a str>,
    pub method: Option<&'a str>,
    /// The beginning of the path.
    pub path: Option<&'a str>,
}

impl From<&Detail> for DetailView {
    fn from(detail: &Detail) -> Self {
        match detail {
            Detail::Connection => Self::Connection,
            Detail::Http(http) => Self::Http(http.into()),
        }
    }
}

impl DetailView {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Http(_) => "http-request",
            Self::L4 => "l4",
            Self::Unknown => "unknown",
        }
    }

    /// In words, where there is more to say than the kind. `destination` stands where the host is not known.
    pub fn words(&self, destination: &str) -> Option<String> {
        match self {
            Self::Connection | Self::L4 | Self::Unknown => None,
            Self::Http(http) => http.words(destination),
        }
    }

    pub fn passes(&self, filter: &DetailFilter<'_>) -> bool {
        let kind = filter.kind.is_none_or(|wanted| is_one_of(wanted, self.kind()));
        kind && match self {
            Self::Http(http) => http.passes(filter),
            Self::Connection | Self::L4 | Self::Unknown => filter.method.is_none() && filter.path.is_none(),
        }
    }
}

/// Whether `is` is among the values of a list with commas, in any case.
pub fn is_one_of(wanted: &str, is: &str) -> bool {
    wanted.split(',').any(|wanted| wanted.trim().eq_ignore_ascii_case(is))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_the_name_of_the_variant() {
        for detail in [
            DetailView::Connection,
            DetailView::Http(HttpView::default()),
            DetailView::L4,
            DetailView::Unknown,
        ] {
            let json = serde_json::to_value(&detail).unwrap();
            assert_eq!(json["kind"], detail.kind());
            assert_eq!(serde_json::from_value::<DetailView>(json).unwrap(), detail);
        }
    }

    #[test]
    fn a_kind_of_a_newer_daemon_is_read() {
        let newer = r#"{"kind": "grpc", "service": "s"}"#;
        assert_eq!(serde_json::from_str::<DetailView>(newer).unwrap(), DetailView::Unknown);
    }

    #[test]
    fn what_only_requests_have_passes_for_requests_only() {
        let asks = |detail: &DetailView| {
            let all = DetailFilter::default();
            [DetailFilter { method: Some("GET"), ..all }, DetailFilter { path: Some("/"), ..all }, all]
                .map(|filter| detail.passes(&filter))
        };
        assert_eq!(asks(&DetailView::Connection), [false, false, true]);
        assert_eq!(asks(&DetailView::L4), [false, false, true]);
        let (method, path) = (Some("GET".into()), Some("/x".into()));
        assert_eq!(asks(&DetailView::Http(HttpView { method, path, ..HttpView::default() })), [true; 3]);
        assert_eq!(asks(&DetailView::Http(HttpView::default())), [false, false, true]);
    }
}
