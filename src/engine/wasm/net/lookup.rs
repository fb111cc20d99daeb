//! `wasi:sockets/ip-name-lookup`, of 0.2 and of 0.3, over our own resolver: only granted names have addresses.
//!
//! Wasmtime's own implementation asks the C library of its process, which in a container has no files, and
//! lets a program ask for every name or for none.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::vec;

use wasmtime::component::{Accessor, HasData, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup as p2;
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode as Error2, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, Pollable, SocketError, subscribe};
use wasmtime_wasi::p3::bindings::sockets::ip_name_lookup as p3;
use wasmtime_wasi::p3::bindings::sockets::types::IpAddress as IpAddress3;

use super::super::grant::network::Name;
use super::{Access, Unresolved};

/// Whose interface it is.
pub(in super::super) struct Lookup;

impl HasData for Lookup {
    type Data<'a> = View<'a>;
}

/// What it works on.
pub(in super::super) struct View<'a> {
    pub(in super::super) access: &'a Access,
    pub(in super::super) table: &'a mut ResourceTable,
}

/// The addresses of what a program asked for. An address is its own.
fn addresses(access: &Access, asked: &str) -> impl Future<Output = Result<Vec<IpAddr>, Failed>> + Send + use<> {
    let (access, name) = (access.clone(), Name::parse(asked));
    let address = asked.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    async move {
        match (address, name) {
            (Ok(_), _) if !access.is_granted() => Err(Failed::Unresolved(Unresolved::Denied)),
            (Ok(address), _) => Ok(vec![address.to_canonical()]),
            (_, Ok(name)) => access.resolve(&name).await.map_err(Failed::Unresolved),
            (_, Err(_)) => Err(Failed::NoName),
        }
    }
}

#[derive(Clone, Copy)]
enum Failed {
    NoName,
    Unresolved(Unresolved),
}

impl From<Failed> for Error2 {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::NoName => Self::InvalidArgument,
            Failed::Unresolved(Unresolved::Denied) => Self::AccessDenied,
            Failed::Unresolved(Unresolved::NotFound) => Self::NameUnresolvable,
            Failed::Unresolved(Unresolved::Temporary) => Self::TemporaryResolverFailure,
            Failed::Unresolved(Unresolved::Permanent) => Self::PermanentResolverFailure,
        }
    }
}

impl From<Failed> for p3::ErrorCode {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::NoName => Self::InvalidArgument,
            Failed::Unresolved(Unresolved::Denied) => Self::AccessDenied,
            Failed::Unresolved(Unresolved::NotFound) => Self::NameUnresolvable,
            Failed::Unresolved(Unresolved::Temporary) => Self::TemporaryResolverFailure,
            Failed::Unresolved(Unresolved::Permanent) => Self::PermanentResolverFailure,
        }
    }
}

/// A lookup under way, or its addresses. It is in the table in the place of Wasmtime's own type for the same
/// resource, which nobody else can make.
enum Answer {
    Awaited(Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, Failed>> + Send>>),
    Here(Result<vec::IntoIter<IpAddr>, Failed>),
}

impl Answer {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<&mut Result<vec::IntoIter<IpAddr>, Failed>> {
        if let Self::Awaited(future) = self {
            let Poll::Ready(found) = future.as_mut().poll(context) else { return Poll::Pending };
            *self = Self::Here(found.map(Vec::into_iter));
        }
        match self {
            Self::Here(found) => Poll::Ready(found),
            Self::Awaited(_) => Poll::Pending,
        }
    }

    fn poll_now(&mut self) -> Poll<&mut Result<vec::IntoIter<IpAddr>, Failed>> {
        self.poll(&mut Context::from_waker(Waker::noop()))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Answer {
    async fn ready(&mut self) {
        poll_fn(|context| self.poll(context).map(drop)).await
    }
}

/// The same resource by the type that it has in the table. Borrowed: a pollable made of an owned one takes it along.
fn ours(stream: &Resource<p2::ResolveAddressStream>) -> Resource<Answer> {
    Resource::new_borrow(stream.rep())
}

/// Errors and the network itself are those of the other interface, where all of this is not different.
impl network::Host for View<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<Error2> {
        error.downcast()
    }

    fn network_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<Error2>> {
        Ok(self.table.get(&error)?.downcast_ref::<std::io::Error>().map(Error2::from))
    }
}

impl network::HostNetwork for View<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl p2::Host for View<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> Result<Resource<p2::ResolveAddressStream>, SocketError> {
        // The network is the capability to call this: there has to be one.
        self.table.get(&network)?;
        let mut answer = Answer::Awaited(Box::pin(addresses(self.access, &name)));
        if let Poll::Ready(Err(failed)) = answer.poll_now() {
            return Err(Error2::from(*failed).into());
        }
        Ok(Resource::new_own(self.table.push(answer)?.rep()))
    }
}

impl p2::HostResolveAddressStream for View<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<p2::ResolveAddressStream>,
    ) -> Result<Option<IpAddress>, SocketError> {
        match self.table.get_mut(&ours(&stream))?.poll_now() {
            Poll::Pending => Err(Error2::WouldBlock.into()),
            Poll::Ready(Ok(addresses)) => Ok(addresses.next().map(Into::into)),
            Poll::Ready(Err(failed)) => Err(Error2::from(*failed).into()),
        }
    }

    fn subscribe(&mut self, stream: Resource<p2::ResolveAddressStream>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, ours(&stream))
    }

    fn drop(&mut self, stream: Resource<p2::ResolveAddressStream>) -> wasmtime::Result<()> {
        self.table.delete(Resource::<Answer>::new_own(stream.rep()))?;
        Ok(())
    }
}

impl<T> p3::HostWithStore<T> for Lookup {
    async fn resolve_addresses(
        accessor: &Accessor<T, Self>,
        name: String,
    ) -> wasmtime::Result<Result<Vec<IpAddress3>, p3::ErrorCode>> {
        let found = accessor.with(|mut view| addresses(view.get().access, &name)).await;
        Ok(found.map(|all| all.into_iter().map(Into::into).collect()).map_err(Into::into))
    }
}

impl p3::Host for View<'_> {}
