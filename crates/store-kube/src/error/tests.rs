//! How the server's refusals read, whatever their body is.

use super::*;

fn check(code: u16, header: Option<u64>, body: &str, message: &str, retry_after: Option<u64>) {
    let refusal = Refusal::parse("GET /x".to_owned(), code, header, body.as_bytes());
    assert_eq!(refusal.to_string(), message);
    assert_eq!(refusal.retry_after, retry_after);
}

#[test]
fn refusals_are_read_from_any_body() {
    let forbidden = r#"{"kind":"Status","reason":"Forbidden","message":"nodes is forbidden: User \"u\" cannot list resource \"nodes\" in API group \"\" at the cluster scope","code":403}"#;
    check(
        403,
        None,
        forbidden,
        "GET /x: nodes is forbidden: User \"u\" cannot list resource \"nodes\" in API group \"\" at the cluster \
         scope (403 Forbidden)",
        None,
    );
    let busy = r#"{"reason":"TooManyRequests","message":"later","details":{"retryAfterSeconds":3}}"#;
    check(429, None, busy, "GET /x: later (429 TooManyRequests)", Some(3));
    check(429, Some(7), busy, "GET /x: later (429 TooManyRequests)", Some(7));
    check(502, Some(0), "<html>Bad Gateway</html>\nmore", "GET /x: <html>Bad Gateway</html> (502 )", None);
    check(500, None, "", "GET /x:  (500 )", None);
    check(
        500,
        None,
        r#"{"details":null,"message":null}"#,
        r#"GET /x: {"details":null,"message":null} (500 )"#,
        None,
    );
}

#[test]
fn faults_say_whether_waiting_helps() {
    for (code, transient) in
        [(401, false), (403, false), (404, false), (422, false), (429, true), (503, true)]
    {
        let fault = Refusal::parse("GET /x".to_owned(), code, None, b"").into_fault();
        assert_eq!(fault.is_transient(), transient, "{code}");
    }
}
