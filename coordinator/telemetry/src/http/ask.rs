//! A question to the address where another program is looked at (HANDS).

use std::{io, time::Duration};

use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode, Uri, header},
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::{net::TcpStream, time::timeout};

/// Nothing was answered that is of use.
#[derive(Debug, Error)]
pub enum AskError {
    /// It is no such address.
    #[error("{0:?} is no address of plain HTTP")]
    Url(String),
    /// Nobody is there.
    #[error("cannot connect to {address}")]
    Connect {
        /// Host and port.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Who is there does not answer in HTTP.
    #[error("the answer is none in HTTP")]
    Protocol(#[source] hyper::Error),
    /// It is refused.
    #[error("the answer is {0}")]
    Status(StatusCode),
    /// It breaks off, is too long or is no text.
    #[error("the answer cannot be read")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It takes too long.
    #[error("there is no answer within {0:?}")]
    Late(Duration),
}

/// What is answered at a URL such as `http://coordinator-1:7701/api/state`, within a time and up to so many bytes.
///
/// # Errors
/// [`AskError`].
pub async fn ask(url: &str, within: Duration, at_most: usize) -> Result<String, AskError> {
    timeout(within, answer(url, at_most)).await.unwrap_or(Err(AskError::Late(within)))
}

async fn answer(url: &str, at_most: usize) -> Result<String, AskError> {
    let unusable = || AskError::Url(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| unusable())?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(unusable()) };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).header(header::HOST, authority.as_str()).header(header::CONNECTION, "close");
    let request = request.body(Body::empty()).map_err(|_| unusable())?;
    let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(&address).await.map_err(|source| AskError::Connect { address, source })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(AskError::Protocol)?;
    // It ends with the answer, or when nobody waits for that any more.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(AskError::Protocol)?;
    if response.status() != StatusCode::OK {
        return Err(AskError::Status(response.status()));
    }
    let body =
        to_bytes(Body::new(response.into_body()), at_most).await.map_err(|error| AskError::Body(error.into()))?;
    String::from_utf8(body.into()).map_err(|error| AskError::Body(error.into()))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};

    use axum::{Router, routing::get};

    use super::*;
    use crate::http::{probes, serve};

    fn asked(url: &str, at_most: usize) -> Result<String, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let answer = runtime.block_on(ask(url, Duration::from_secs(5), at_most));
        answer.map_err(|error| crate::chain(&error))
    }

    #[test]
    fn an_answer_comes_whole_or_the_reason_why_it_does_not() {
        let router =
            probes(|| Err("nobody leads".to_owned())).merge(Router::new().route("/", get(async || "all of it")));
        let served = serve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), router).expect("served");
        let at = |path: &str| format!("http://{}{path}", served.address());
        assert_eq!(asked(&at(""), 9), Ok("all of it".to_owned()));
        assert_eq!(asked(&at("/?own"), 9), Ok("all of it".to_owned()));
        assert_eq!(asked(&at("/readyz"), 99), Err("the answer is 503 Service Unavailable".to_owned()));
        assert!(asked(&at("/"), 8).is_err_and(|why| why.starts_with("the answer cannot be read: ")));
        for wrong in ["", "c-1:7701", "https://c-1:7701", "http://", "file:///etc/passwd"] {
            assert_eq!(asked(wrong, 9), Err(format!("{wrong:?} is no address of plain HTTP")));
        }
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).expect("a port");
        assert!(asked(&format!("http://{free}"), 9).is_err_and(|why| why.contains(&format!("connect to {free}: "))));
    }

    #[test]
    fn whoever_says_nothing_is_not_waited_for() {
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let url = format!("http://{}", silent.local_addr().expect("an address"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let late = runtime.expect("a runtime").block_on(ask(&url, Duration::from_secs(1), 9));
        assert!(matches!(late, Err(AskError::Late(_))), "{late:?}");
    }
}
