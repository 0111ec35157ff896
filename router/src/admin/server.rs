//! Connections of operators: how many there may be, how long each may take, and who makes room for the
//! next. What they ask for is answered by [`routes`].

use std::convert::Infallible;
use std::net::TcpListener as StdListener;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::Either;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::{Admin, routes};

/// The connections that there are.
#[derive(Debug, Default)]
struct Seats {
    taken: Mutex<Vec<Arc<Seat>>>,
    /// Grows with everything that a connection does.
    steps: AtomicU64,
}

/// One connection.
#[derive(Debug)]
struct Seat {
    /// When it last did something, by the steps of all.
    last: AtomicU64,
    /// A request of it is being answered.
    busy: AtomicBool,
    /// Somebody else needs its place.
    give_up: Notify,
}

/// A connection's hold on its seat.
struct Taken {
    seats: Arc<Seats>,
    seat: Arc<Seat>,
}

/// Answers requests for as long as the router runs.
pub(super) async fn run(listener: StdListener, admin: Arc<Admin>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return warn!(%error, "the admin server can't start"),
    };
    let seats = Arc::new(Seats::default());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match Seats::take(&seats) {
                Some(taken) => drop(tokio::spawn(serve(stream, taken, admin.clone()))),
                None => turn_away(&stream),
            },
            Err(error) => {
                warn!(%error, "admin: accept failed");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, taken: Taken, admin: Arc<Admin>) {
    let seat = &taken.seat;
    let answer = service_fn(async |request: Request<Incoming>| {
        taken.begin();
        let answer = routes::answer(request, &admin).await;
        // A stream keeps its seat for as long as it goes on.
        if matches!(answer.body(), Either::Left(_)) {
            taken.end();
        }
        Ok::<_, Infallible>(answer)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        () = seat.give_up.notified() => {
            if !seat.busy.load(Relaxed) {
                return;
            }
            // Its request came just now: it is answered, and no other.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "admin: connection ended");
    }
}

/// Says that there is no place, without waiting for a request.
fn turn_away(stream: &TcpStream) {
    let status = StatusCode::SERVICE_UNAVAILABLE.as_u16();
    let answer = format!(
        "HTTP/1.1 {status} Service Unavailable\r\ncontent-type: application/problem+json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{NO_PLACE}",
        NO_PLACE.len()
    );
    // Whether it is heard makes no difference.
    let _ = stream.try_write(answer.as_bytes());
}

impl Seats {
    /// A seat for a new connection. If all are taken, the one that has not asked for anything for the
    /// longest time loses its own; if all of those are being answered, there is none.
    fn take(seats: &Arc<Self>) -> Option<Taken> {
        let mut taken = seats.lock();
        if taken.len() >= MAX_CONNECTIONS {
            let idle = taken.iter().filter(|seat| !seat.busy.load(Relaxed));
            let idle = idle.min_by_key(|seat| seat.last.load(Relaxed))?.clone();
            taken.retain(|seat| !Arc::ptr_eq(seat, &idle));
            idle.give_up.notify_one();
        }
        let last = AtomicU64::new(seats.steps.fetch_add(1, Relaxed));
        let seat = Arc::new(Seat { last, busy: AtomicBool::new(false), give_up: Notify::new() });
        taken.push(seat.clone());
        Some(Taken { seats: seats.clone(), seat })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Seat>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn begin(&self) {
        self.seat.busy.store(true, Relaxed);
    }

    fn end(&self) {
        self.seat.last.store(self.seats.steps.fetch_add(1, Relaxed), Relaxed);
        self.seat.busy.store(false, Relaxed);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.seats.lock().retain(|seat| !Arc::ptr_eq(seat, &self.seat));
    }
}

/// Operators are few, and each connection is a descriptor that a node can't have.
const MAX_CONNECTIONS: usize = 256;
/// How long a client may take over its request's head, and from one request to the next.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 16 << 10;
const AFTER_FAILURE: Duration = Duration::from_millis(100);
const NO_PLACE: &str = "{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\
                        \"detail\":\"too many connections are being answered; try again\",\
                        \"error\":\"busy\"}";
