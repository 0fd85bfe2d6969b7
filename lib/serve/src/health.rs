//! Health and metrics, on a separate listener: on the S3 listener they would hide buckets.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Renders the metrics as text.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// Tells whether requests can be served; if not, why, in words.
pub type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

const CONNECTIONS_MAX: usize = 64;
const CONNECTION_LIFE: Duration = Duration::from_secs(60);
/// How long to wait after a failed accept. Usually there are no file descriptors left: the next one
/// would fail at once, too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the listener reports.
#[derive(Clone)]
pub struct State {
    /// The metrics, if there are any to show.
    pub metrics: Option<MetricsText>,
    /// Whether requests can be served.
    pub ready: Ready,
}

/// Serves until `stop`; connections are tasks of `tasks`.
pub async fn serve(socket: TcpListener, state: State, stop: CancellationToken, tasks: TaskTracker) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection for health or metrics was not accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // A connection beyond the limit is closed at once.
        if let Ok(permit) = Arc::clone(&room).try_acquire_owned() {
            let (state, stop) = (state.clone(), stop.clone());
            tasks.spawn(async move {
                let _permit = permit;
                tokio::select! {
                    () = connection(stream, state) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }
}

async fn connection(stream: TcpStream, state: State) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&state, request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(CONNECTION_LIFE, served).await {
        tracing::debug!(%error, "a connection for health or metrics broke");
    }
}

fn answer(state: &State, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let text = |status: StatusCode, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    };
    if *method != Method::GET && *method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned());
    }
    match (path, &state.metrics) {
        ("/health/live", _) => text(StatusCode::OK, "live\n".to_owned()),
        ("/health/ready", _) => match (state.ready)() {
            Ok(()) => text(StatusCode::OK, "ready\n".to_owned()),
            Err(why) => text(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("not ready: {why}\n"),
            ),
        },
        ("/metrics", Some(metrics)) => text(StatusCode::OK, metrics()),
        (_, _) => text(StatusCode::NOT_FOUND, "not found\n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Shutdown;
    use std::os::fd::OwnedFd;
    use std::pin::pin;

    /// How long the listener is watched while it can't accept.
    const WATCHED: Duration = Duration::from_millis(500);

    /// A socket that listens no more stands for a process without descriptors: each accept fails at
    /// once.
    #[tokio::test]
    async fn a_listener_that_can_t_accept_does_not_spin() {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let socket = socket.into_std().expect("a socket of the system");
        let other: OwnedFd = socket.try_clone().expect("another descriptor of it").into();
        let state = State {
            metrics: None,
            ready: Arc::new(|| Ok(())),
        };
        let socket = TcpListener::from_std(socket).expect("a socket of the runtime");
        let stop = CancellationToken::new();
        let mut served = pin!(serve(socket, state, stop.clone(), TaskTracker::new()));
        std::net::TcpStream::from(other)
            .shutdown(Shutdown::Both)
            .expect("an end of listening");
        let mut polls: u128 = 0;
        let counted = std::future::poll_fn(|context| {
            polls += 1;
            served.as_mut().poll(context)
        });
        assert!(timeout(WATCHED, counted).await.is_err(), "it has ended");
        // Two for each pause, and a few besides.
        let most = 2 * WATCHED.as_millis() / ACCEPT_PAUSE.as_millis() + 10;
        assert!(polls <= most, "polled {polls} times in {WATCHED:?}");
        stop.cancel();
        served.await;
    }

    #[test]
    fn only_its_own_paths() {
        let state = |ready: bool| State {
            metrics: Some(Arc::new(|| "m 1\n".to_owned())),
            ready: Arc::new(move || ready.then_some(()).ok_or_else(|| "starting".to_owned())),
        };
        let status = |ready, path| answer(&state(ready), &Method::GET, path).status().as_u16();
        assert_eq!(status(false, "/health/live"), 200);
        assert_eq!(status(false, "/health/ready"), 503);
        assert_eq!(status(true, "/health/ready"), 200);
        assert_eq!(status(true, "/metrics"), 200);
        assert_eq!(status(true, "/"), 404);
        assert_eq!(
            answer(&state(true), &Method::POST, "/metrics")
                .status()
                .as_u16(),
            405
        );
    }
}
