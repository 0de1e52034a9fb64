//! SQL over Arrow Flight: the Flight SQL commands that a read-only database answers.
//!
//! Tickets and prepared statements contain their statement with its values and options, and a session is a cookie. So a ticket
//! is valid as long as the tables it names. The server keeps transactions, the queries that run, and, for clients that do not
//! keep them, the newest values of some prepared statements. A statement sees the data of the moment when `DoGet` executes it,
//! or of its transaction.
//!
//! The service is implemented on Flight itself rather than on `arrow_flight::sql::server::FlightSqlService`, which
//! answers malformed commands as internal errors and has no `GetSchema`.

mod binding;
mod catalog;
mod command;
mod info;
mod queries;
mod running;
pub(super) mod server;
mod session;
mod tail;
mod ticket;
mod transaction;
mod types;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionBeginTransactionResult, ActionCancelQueryRequest, ActionCancelQueryResult,
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    ActionEndTransactionRequest, Command, CommandPreparedStatementUpdate, DoPutPreparedStatementResult,
    DoPutUpdateResult, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, Criteria, Empty, FlightData,
    FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse, IpcMessage, PollInfo, PutResult,
    SchemaAsIpc, SchemaResult, Ticket,
};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use prost::bytes::Bytes;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Response, Status, Streaming};

use super::auth::access::token_of;
use super::listener::{Peer, PeerId};
use super::trace::Reply;
use crate::query::Prepared;
use crate::query::request::Options;
use crate::query::statements::Statements;
use command::{action_body, decode_command, descriptor_command, plain_body};
use queries::{Asked, Queries};
use session::{CloseSessionResult, SetSessionOptionsRequest};
use ticket::{Handle, Stated};

/// The header that has a token.
const AUTHORIZATION: &str = "authorization";

/// What clients may ask of `DoAction`.
const ACTIONS: &[(&str, &str)] = &[
    ("CreatePreparedStatement", "Plans a statement, tells its parameters, and gives a handle for it."),
    ("ClosePreparedStatement", "Forgets the values of a statement's parameters."),
    ("BeginTransaction", "Begins a transaction, in which all statements see the rows of one moment."),
    ("EndTransaction", "Ends a transaction. Nothing is written, so committing and rolling back are the same."),
    ("CancelFlightInfo", "Ends the query of a FlightInfo."),
    ("CancelQuery", "As CancelFlightInfo, for older clients."),
    (
        "SetSessionOptions",
        "Sets catalog, schema, time_max and timestamps (us or ns) of the session, which is a cookie.",
    ),
    ("GetSessionOptions", "The options of the session."),
    ("CloseSession", "Has the client forget the options of the session."),
];

/// Answers Flight SQL.
#[derive(Debug)]
pub(super) struct Flight {
    queries: Queries,
    /// Batches are split so that a message is about this large at most.
    message_bytes_max: usize,
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl FlightService for Flight {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;
    type DoExchangeStream = Answers<FlightData>;

    /// Accepts every client that was let in. One that has shown its token as a password gets the header for further calls.
    async fn handshake(&self, request: Request<Streaming<HandshakeRequest>>) -> Reply<Self::HandshakeStream> {
        let accepted = HandshakeResponse { protocol_version: 0, payload: Bytes::new() };
        let mut response = Response::new(stream::iter([Ok(accepted)]).boxed() as Self::HandshakeStream);
        let shown = request.metadata().get(AUTHORIZATION).and_then(|header| token_of(header.to_str().ok()?));
        if let Some(bearer) = shown.and_then(|token| format!("Bearer {token}").parse().ok()) {
            response.metadata_mut().insert(AUTHORIZATION, bearer);
        }
        Ok(response)
    }

    /// Lists nothing: tables are found by `CommandGetTables`.
    async fn list_flights(&self, _: Request<Criteria>) -> Reply<Self::ListFlightsStream> {
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Reply<FlightInfo> {
        let (metadata, extensions, descriptor) = request.into_parts();
        Ok(Response::new(self.info(&metadata, &extensions, descriptor).await?))
    }

    /// A query runs when its ticket is given to `DoGet`, so there is nothing to wait for.
    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Reply<PollInfo> {
        let (metadata, extensions, descriptor) = request.into_parts();
        let info = self.info(&metadata, &extensions, descriptor).await?;
        Ok(Response::new(PollInfo { info: Some(info), progress: Some(1.0), ..PollInfo::default() }))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Reply<SchemaResult> {
        let (metadata, extensions, descriptor) = request.into_parts();
        let (options, client) = (session::options(&metadata)?, client(&metadata));
        let schema =
            match self.queries.stated(descriptor_command(&descriptor)?, &options, peer_id(&extensions).as_ref())? {
                Asked::Statement(stated) => self.queries.plan("GetSchema", &stated, client).await?.schema,
                Asked::Catalog(command) => self.catalog_schema(command, &options)?,
            };
        Ok(Response::new(SchemaResult { schema: schema_bytes(&schema)? }))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Reply<Self::DoGetStream> {
        let peer = request.extensions().get::<Peer>().cloned();
        let (options, client) = (session::options(request.metadata())?, client(request.metadata()));
        let ticket = request.into_inner().ticket;
        if let Some(tail) = tail::request(&ticket, &options, &client) {
            return Ok(Response::new(self.queries.follow(&tail?, peer).await?));
        }
        let frames = match decode_command("ticket", &ticket)? {
            Command::TicketStatementQuery(ticket) => {
                self.queries.execute("DoGet", &Handle::Query.decode(&ticket.statement_handle)?, client, peer).await?
            }
            Command::CommandStatementQuery(_) => {
                return Err(Status::invalid_argument(
                    "this is a statement, not a ticket: send it to GetFlightInfo and give DoGet the ticket it answers",
                ));
            }
            other => match self.queries.stated(other, &options, peer.as_ref().and_then(Peer::id).as_ref())? {
                Asked::Statement(stated) => self.queries.execute("DoGet", &stated, client, peer).await?,
                Asked::Catalog(command) => self.encode(self.catalog(command, &options, client).await?),
            },
        };
        Ok(Response::new(frames))
    }

    /// Takes values for the parameters of a prepared statement.
    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Reply<Self::DoPutStream> {
        let (metadata, extensions, mut messages) = request.into_parts();
        let first = messages.message().await?.unwrap_or_default();
        let descriptor = first.flight_descriptor.clone().unwrap_or_default();
        let app_metadata = match descriptor_command(&descriptor)? {
            Command::CommandPreparedStatementQuery(query) => {
                let mut stated = Handle::Prepared.decode(&query.prepared_statement_handle)?;
                stated.parameters = binding::receive(first, messages).await?;
                self.queries.bindings.keep(stated.id(), stated.parameters.clone());
                let prepared_statement_handle = Some(Handle::Prepared.encode(&stated));
                DoPutPreparedStatementResult { prepared_statement_handle }.encode_to_vec()
            }
            Command::CommandPreparedStatementUpdate(CommandPreparedStatementUpdate {
                prepared_statement_handle: handle,
            }) => {
                let values = binding::receive(first, messages).await?;
                let mut query = Handle::Prepared.decode(&handle)?.query(Some(values), session::options(&metadata)?)?;
                query.transaction = self.queries.transactions.present(query.transaction, peer_id(&extensions).as_ref());
                DoPutUpdateResult { record_count: self.queries.count(&query, client(&metadata)).await? }.encode_to_vec()
            }
            _ => {
                return Err(Status::unimplemented(
                    "kymo answers queries only: DoPut takes values for the parameters of a prepared statement, no updates and \
                     no data",
                ));
            }
        };
        Ok(Response::new(stream::iter([Ok(PutResult { app_metadata: app_metadata.into() })]).boxed()))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Reply<Self::DoExchangeStream> {
        Err(Status::unimplemented("DoExchange is not offered: kymo answers queries only"))
    }

    async fn do_action(&self, request: Request<Action>) -> Reply<Self::DoActionStream> {
        let (metadata, extensions, action) = request.into_parts();
        let options = session::options(&metadata);
        let mut cookie = None;
        let answer = match action.r#type.as_str() {
            "CreatePreparedStatement" => Some(self.create(action_body(&action)?, options?, client(&metadata)).await?),
            "ClosePreparedStatement" => {
                let request: ActionClosePreparedStatementRequest = action_body(&action)?;
                self.queries.bindings.forget(Handle::Prepared.decode(&request.prepared_statement_handle)?.id());
                None
            }
            "BeginTransaction" => {
                // The request has no fields, and some clients send nothing at all.
                if !action.body.is_empty() {
                    let _: ActionBeginTransactionRequest = action_body(&action)?;
                }
                let transaction_id = self.queries.transactions.begin(peer_id(&extensions))?.to_vec().into();
                Some(ActionBeginTransactionResult { transaction_id }.as_any().encode_to_vec())
            }
            "EndTransaction" => {
                let request: ActionEndTransactionRequest = action_body(&action)?;
                self.queries.transactions.end(&request.transaction_id)?;
                None
            }
            "CancelFlightInfo" => {
                let request: CancelFlightInfoRequest = plain_body(&action)?;
                let status = self.cancel(&request.info.unwrap_or_default())? as i32;
                Some(CancelFlightInfoResult { status }.encode_to_vec())
            }
            "CancelQuery" => {
                let request: ActionCancelQueryRequest = action_body(&action)?;
                let info = FlightInfo::decode(request.info)
                    .map_err(|error| Status::invalid_argument(format!("the FlightInfo cannot be read: {error}")))?;
                // The older statuses have the same numbers.
                let result = self.cancel(&info)? as i32;
                Some(ActionCancelQueryResult { result }.as_any().encode_to_vec())
            }
            "SetSessionOptions" => {
                let request: SetSessionOptionsRequest = plain_body(&action)?;
                let (options, result) = session::set(options?, request, self.queries.statements.time_max());
                cookie = Some(session::set_cookie(Some(&options))?);
                Some(result.encode_to_vec())
            }
            "GetSessionOptions" => Some(session::told(&options?, self.queries.statements.time_max()).encode_to_vec()),
            "CloseSession" => {
                cookie = Some(session::set_cookie(None)?);
                Some(CloseSessionResult::CLOSED.encode_to_vec())
            }
            "RenewFlightEndpoint" => {
                return Err(Status::unimplemented("RenewFlightEndpoint is not offered: endpoints do not expire"));
            }
            "BeginSavepoint" | "EndSavepoint" => {
                return Err(Status::unimplemented("savepoints are not offered: transactions only read"));
            }
            other => {
                let names: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
                return Err(Status::unimplemented(format!(
                    "the action {other:?} is not offered: there are {}",
                    names.join(", ")
                )));
            }
        };
        let answer = answer.map(|body| Ok(arrow_flight::Result { body: body.into() }));
        let mut response = Response::new(stream::iter(answer).boxed() as Self::DoActionStream);
        if let Some(cookie) = cookie {
            response.metadata_mut().insert("set-cookie", cookie);
        }
        Ok(response)
    }

    async fn list_actions(&self, _: Request<Empty>) -> Reply<Self::ListActionsStream> {
        let action = |(name, description): &(&str, &str)| {
            Ok(ActionType { r#type: (*name).to_owned(), description: (*description).to_owned() })
        };
        Ok(Response::new(stream::iter(ACTIONS.iter().map(action)).boxed()))
    }
}

impl Flight {
    pub(super) fn new(statements: Arc<dyn Statements>, message_bytes_max: usize) -> Flight {
        Flight { queries: Queries::new(statements), message_bytes_max }
    }

    async fn info(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
        descriptor: FlightDescriptor,
    ) -> Result<FlightInfo, Status> {
        let options = session::options(metadata)?;
        if let Some(tail) = tail::request(&descriptor.cmd, &options, &client(metadata)) {
            let schema = self.queries.tail_schema("GetFlightInfo", &tail?).await?;
            let ticket = descriptor.cmd.clone();
            return told(descriptor, &schema, ticket);
        }
        let (schema, ticket) =
            match self.queries.stated(descriptor_command(&descriptor)?, &options, peer_id(extensions).as_ref())? {
                Asked::Statement(stated) => {
                    let Prepared { schema, parameters } =
                        self.queries.plan("GetFlightInfo", &stated, client(metadata)).await?;
                    if stated.parameters.is_empty() && !parameters.fields().is_empty() {
                        return Err(Status::invalid_argument(
                            "the statement has parameters: prepare it, and bind a value to each of them",
                        ));
                    }
                    (schema, TicketStatementQuery { statement_handle: Handle::Query.encode(&stated) }.as_any())
                }
                Asked::Catalog(command) => (self.catalog_schema(command.clone(), &options)?, command.into_any()),
            };
        told(descriptor, &schema, ticket.encode_to_vec().into())
    }

    async fn create(
        &self,
        request: ActionCreatePreparedStatementRequest,
        options: Options,
        client: String,
    ) -> Result<Vec<u8>, Status> {
        let stated = Stated::new(request.query, request.transaction_id)?;
        let planned = stated.clone().query(None, options)?;
        let prepared = self.queries.plan("CreatePreparedStatement", &planned, client).await?;
        let result = ActionCreatePreparedStatementResult {
            prepared_statement_handle: Handle::Prepared.encode(&stated),
            dataset_schema: schema_bytes(&prepared.schema)?,
            parameter_schema: schema_bytes(&prepared.parameters)?,
        };
        Ok(result.as_any().encode_to_vec())
    }

    /// Ends the queries of an info's tickets. Those that do not run now will not run later.
    fn cancel(&self, info: &FlightInfo) -> Result<CancelStatus, Status> {
        let mut status = CancelStatus::NotCancellable;
        for endpoint in &info.endpoint {
            let ticket = endpoint.ticket.clone().unwrap_or_default();
            if let Command::TicketStatementQuery(ticket) = decode_command("ticket", &ticket.ticket)? {
                self.queries.running.cancel(Handle::Query.decode(&ticket.statement_handle)?.id());
                status = CancelStatus::Cancelled;
            }
        }
        Ok(status)
    }

    /// The answer to a command about the catalog.
    async fn catalog(&self, command: Command, options: &Options, client: String) -> Result<RecordBatch, Status> {
        let views = match &command {
            Command::CommandGetTables(asked) => self.queries.views(asked.include_schema, client).await,
            _ => Vec::new(),
        };
        catalog::answer(command, options, self.queries.statements.time_max(), views)
    }

    /// The schema of that answer, which does not depend on the views.
    fn catalog_schema(&self, command: Command, options: &Options) -> Result<SchemaRef, Status> {
        Ok(catalog::answer(command, options, self.queries.statements.time_max(), Vec::new())?.schema())
    }

    fn encode(&self, batch: RecordBatch) -> Answers<FlightData> {
        FlightDataEncoderBuilder::new()
            .with_schema(batch.schema())
            .with_max_flight_data_size(self.message_bytes_max)
            .build(stream::iter([Ok(batch)]))
            .map_err(Status::from)
            .boxed()
    }
}

/// What a client is told of the result that it gets for a ticket.
fn told(descriptor: FlightDescriptor, schema: &Schema, ticket: Bytes) -> Result<FlightInfo, Status> {
    // Exactly one endpoint, without a place: clients read from where they asked.
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket));
    let info = FlightInfo::new()
        .try_with_schema(schema)
        .map_err(|error| Status::internal(format!("encoding the schema: {error}")))?;
    Ok(info.with_descriptor(descriptor).with_endpoint(endpoint).with_ordered(true))
}

/// The connection of a call.
fn peer_id(extensions: &Extensions) -> Option<PeerId> {
    extensions.get::<Peer>().and_then(Peer::id)
}

/// The name that the client's program gives itself.
fn client(metadata: &MetadataMap) -> String {
    let name = metadata.get("user-agent").and_then(|name| name.to_str().ok());
    name.unwrap_or_default().to_owned()
}

fn schema_bytes(schema: &Schema) -> Result<Bytes, Status> {
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &arrow::ipc::writer::IpcWriteOptions::default())
        .try_into()
        .map_err(|error: arrow::error::ArrowError| Status::internal(format!("encoding the schema: {error}")))?;
    Ok(bytes)
}
