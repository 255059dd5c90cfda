//! HTTP/1 messages of usual shapes.

use parsers::http1::Limits;

/// The node's defaults.
pub const LIMITS: Limits = Limits {
    head_bytes_max: 65_536,
    fields_max: 200,
    path_bytes_max: 8192,
    chunk_line_bytes_max: 4096,
    trailer_bytes_max: 16_384,
};

/// What a load generator sends: 50 bytes.
pub const REQUEST_ONE_FIELD: &[u8] = b"GET /v1/request-landing HTTP/1.1\r\nHost: deaths\r\n\r\n";

/// What a small service answers.
pub const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\
    Date: Tue, 01 Sep 2026 10:00:00 GMT\r\nServer: deathstar\r\n\r\n";

/// Targets with several readings.
pub const HOSTILE_TARGETS: [(&str, &str); 3] = [
    ("dots", "/public/../admin"),
    ("mixed", "/a%2f..;x/b\\c?q=%2f"),
    ("too-many", "/a%2f.;x%5c../b\\;y..//c%2f%5c;/..%2f..\\;z/d"),
];

/// What a browser sends: 11 fields, 644 bytes.
pub fn request_eleven_fields() -> Vec<u8> {
    let head = "GET /api/v1/service-0001/items/4711?page=2&sort=asc HTTP/1.1\r\n\
        Host: inventory.default.svc.cluster.local:8080\r\n\
        User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
        Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
        Accept-Language: en-US,en;q=0.5\r\n\
        Accept-Encoding: gzip, deflate, br, zstd\r\n\
        Referer: http://inventory.default.svc.cluster.local:8080/overview\r\n\
        X-Request-Id: 5f1c1c2e-7d7b-4d0e-9a44-0f7a5a3c9e11\r\n\
        X-Tenant: blue\r\n\
        Cookie: session=PAD; theme=dark\r\n\
        Connection: keep-alive\r\n\
        Cache-Control: max-age=0\r\n\r\n";
    let pad = "a".repeat(644 + "PAD".len() - head.len());
    head.replace("PAD", &pad).into_bytes()
}
