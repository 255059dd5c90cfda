//! A request of HTTP/1.0 or 1.1.

use super::{DetailFilter, is_one_of};
use crate::record::HttpInfo;
use parsers::http1::Version;
use serde::{Deserialize, Serialize};

/// Nothing of a header field but `Host`: credentials are in the others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HttpView {
    pub method: Option<String>,
    pub path: Option<String>,
    pub host: Option<String>,
    /// Of the request: `HTTP/1.0`, `HTTP/1.1`.
    pub version: Option<String>,
    pub status: Option<u16>,
}

impl From<&HttpInfo> for HttpView {
    fn from(http: &HttpInfo) -> Self {
        Self {
            method: known(http.method.to_string()),
            path: known(http.path.to_string()),
            host: known(http.host.to_string()),
            version: http.version.map(|version| version_name(version).to_owned()),
            status: Some(http.status).filter(|status| *status != 0),
        }
    }
}

impl HttpView {
    /// `None` where the head could not be read.
    pub(super) fn words(&self, destination: &str) -> Option<String> {
        let method = self.method.as_ref()?;
        let status = self.status.map_or_else(|| "no response".to_owned(), |status| status.to_string());
        Some(format!(
            "{} {method} http://{}{} => {status}",
            self.version.as_deref().unwrap_or("HTTP"),
            self.host.as_deref().unwrap_or(destination),
            self.path.as_deref().unwrap_or_default(),
        ))
    }

    pub(super) fn passes(&self, filter: &DetailFilter<'_>) -> bool {
        let (method, path) = (self.method.as_deref(), self.path.as_deref());
        filter.method.is_none_or(|wanted| method.is_some_and(|is| is_one_of(wanted, is)))
            && filter.path.is_none_or(|wanted| path.is_some_and(|is| is.starts_with(wanted)))
    }
}

fn version_name(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    }
}

fn known(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
