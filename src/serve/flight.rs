//! SQL over Arrow Flight: the Flight SQL commands that a read-only database answers.
//!
//! Tickets and prepared statements contain their statement. So the server keeps nothing between calls, and a ticket is
//! valid as long as the tables it names. A statement sees the data of the moment when `DoGet` executes it.
//!
//! The service is implemented on Flight itself rather than on `arrow_flight::sql::server::FlightSqlService`, which
//! answers malformed commands as internal errors and has no `GetSchema`.

mod catalog;
mod info;
pub(super) mod server;
mod ticket;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    Any, Command, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    HandshakeResponse, IpcMessage, PollInfo, PutResult, SchemaAsIpc, SchemaResult, Ticket,
};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use prost::bytes::Bytes;
use tonic::{Request, Response, Status, Streaming};

use super::listener::Peer;
use super::trace::{self, Reply, TracedFrames};
use crate::query::statements::Statements;
use ticket::Handle;

/// The type of every Flight SQL command begins with this.
const FLIGHT_SQL: &str = "type.googleapis.com/arrow.flight.protocol.sql.";

const CREATE_PREPARED_STATEMENT: &str = "CreatePreparedStatement";
const CLOSE_PREPARED_STATEMENT: &str = "ClosePreparedStatement";

/// Answers Flight SQL.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) statements: Arc<dyn Statements>,
    /// Batches are split so that a message is about this large at most.
    pub(super) message_bytes_max: usize,
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

    /// Accepts every client: only those on this host can reach the server.
    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Reply<Self::HandshakeStream> {
        let accepted = HandshakeResponse { protocol_version: 0, payload: Bytes::new() };
        Ok(Response::new(stream::iter([Ok(accepted)]).boxed()))
    }

    /// Lists nothing: tables are found by `CommandGetTables`.
    async fn list_flights(&self, _: Request<Criteria>) -> Reply<Self::ListFlightsStream> {
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Reply<FlightInfo> {
        let descriptor = request.into_inner();
        let (schema, ticket) = match descriptor_command(&descriptor)? {
            Command::CommandStatementQuery(query) => {
                no_transaction(query.transaction_id.as_ref())?;
                let schema = self.plan("GetFlightInfo", &query.query).await?;
                let statement_handle = Handle::Query.encode(&query.query);
                (schema, TicketStatementQuery { statement_handle }.as_any())
            }
            Command::CommandPreparedStatementQuery(query) => {
                let sql = Handle::Prepared.decode(&query.prepared_statement_handle)?;
                (self.plan("GetFlightInfo", &sql).await?, query.as_any())
            }
            other => (catalog::answer(other.clone())?.schema(), other.into_any()),
        };
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket.encode_to_vec()));
        let info = FlightInfo::new()
            .try_with_schema(&schema)
            .map_err(|error| Status::internal(format!("encoding the schema: {error}")))?
            .with_descriptor(descriptor)
            .with_endpoint(endpoint)
            .with_ordered(true);
        Ok(Response::new(info))
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Reply<PollInfo> {
        Err(Status::unimplemented("PollFlightInfo is not offered: use GetFlightInfo and DoGet"))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Reply<SchemaResult> {
        let schema = match descriptor_command(&request.into_inner())? {
            Command::CommandStatementQuery(query) => {
                no_transaction(query.transaction_id.as_ref())?;
                self.plan("GetSchema", &query.query).await?
            }
            Command::CommandPreparedStatementQuery(query) => {
                self.plan("GetSchema", &Handle::Prepared.decode(&query.prepared_statement_handle)?).await?
            }
            other => catalog::answer(other)?.schema(),
        };
        Ok(Response::new(SchemaResult { schema: schema_bytes(&schema)? }))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Reply<Self::DoGetStream> {
        let peer = request.extensions().get::<Peer>().cloned();
        let frames = match decode_command("ticket", &request.into_inner().ticket)? {
            Command::TicketStatementQuery(ticket) => {
                self.execute(Handle::Query.decode(&ticket.statement_handle)?, peer).await?
            }
            Command::CommandPreparedStatementQuery(query) => {
                self.execute(Handle::Prepared.decode(&query.prepared_statement_handle)?, peer).await?
            }
            Command::CommandStatementQuery(_) => {
                return Err(Status::invalid_argument(
                    "this is a statement, not a ticket: send it to GetFlightInfo and give DoGet the ticket it answers",
                ));
            }
            other => {
                let batch = catalog::answer(other)?;
                self.encode(batch)
            }
        };
        Ok(Response::new(frames))
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Reply<Self::DoPutStream> {
        Err(Status::unimplemented(
            "kymo answers queries only: it takes no updates and no data, and prepared statements have no parameters",
        ))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Reply<Self::DoExchangeStream> {
        Err(Status::unimplemented("DoExchange is not offered: kymo answers queries only"))
    }

    async fn do_action(&self, request: Request<Action>) -> Reply<Self::DoActionStream> {
        let action = request.into_inner();
        match action.r#type.as_str() {
            CREATE_PREPARED_STATEMENT => {
                let request: ActionCreatePreparedStatementRequest = action_body(&action)?;
                no_transaction(request.transaction_id.as_ref())?;
                let schema = self.plan(CREATE_PREPARED_STATEMENT, &request.query).await?;
                let result = ActionCreatePreparedStatementResult {
                    prepared_statement_handle: Handle::Prepared.encode(&request.query),
                    dataset_schema: schema_bytes(&schema)?,
                    parameter_schema: schema_bytes(&Schema::empty())?,
                };
                let result = arrow_flight::Result { body: result.as_any().encode_to_vec().into() };
                Ok(Response::new(stream::iter([Ok(result)]).boxed()))
            }
            CLOSE_PREPARED_STATEMENT => {
                let request: ActionClosePreparedStatementRequest = action_body(&action)?;
                Handle::Prepared.decode(&request.prepared_statement_handle)?;
                Ok(Response::new(stream::empty().boxed()))
            }
            other => Err(Status::unimplemented(format!(
                "the action {other:?} is not offered: there are {CREATE_PREPARED_STATEMENT} and \
                 {CLOSE_PREPARED_STATEMENT}; to cancel a query, close its stream"
            ))),
        }
    }

    async fn list_actions(&self, _: Request<Empty>) -> Reply<Self::ListActionsStream> {
        let action = |name: &str, description: &str| {
            Ok(ActionType { r#type: name.to_owned(), description: description.to_owned() })
        };
        let actions = [
            action(CREATE_PREPARED_STATEMENT, "Plans a statement without parameters and gives a handle for it."),
            action(CLOSE_PREPARED_STATEMENT, "Checks a handle; the server keeps nothing that could be closed."),
        ];
        Ok(Response::new(stream::iter(actions).boxed()))
    }
}

impl Flight {
    /// The schema of the statement's result.
    async fn plan(&self, method: &'static str, sql: &str) -> Result<SchemaRef, Status> {
        let work = async { Ok(self.statements.prepare(sql).await?) };
        trace::within(&trace::query(method, sql), work).await
    }

    /// Begins the statement. Dropping the stream, as tonic does when the client goes away, ends it.
    async fn execute(&self, sql: String, peer: Option<Peer>) -> Result<Answers<FlightData>, Status> {
        let span = trace::query("DoGet", &sql);
        let mut frames = trace::within(&span, async { Ok(self.statements.execute(&sql).await?) }).await?;
        if let Some(peer) = peer {
            frames.close_by(Arc::new(move || peer.close()));
        }
        Ok(TracedFrames { frames: frames.map_err(Status::from).boxed(), span, rows: 0 }.boxed())
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

/// The command of a descriptor.
fn descriptor_command(descriptor: &FlightDescriptor) -> Result<Command, Status> {
    if descriptor.r#type() != DescriptorType::Cmd {
        return Err(Status::invalid_argument(
            "the descriptor is not a command: kymo has no paths, send a Flight SQL command such as \
             CommandStatementQuery",
        ));
    }
    match decode_command("descriptor", &descriptor.cmd)? {
        Command::TicketStatementQuery(_) => {
            Err(Status::invalid_argument("the descriptor is a ticket: give it to DoGet"))
        }
        command => Ok(command),
    }
}

/// The command that a descriptor or ticket holds.
fn decode_command(what: &str, bytes: &[u8]) -> Result<Command, Status> {
    let invalid = |reason: &dyn std::fmt::Display| {
        Status::invalid_argument(format!("the {what} is not a Flight SQL command: {reason}"))
    };
    let any = Any::decode(bytes).map_err(|error| invalid(&error))?;
    let command = Command::try_from(any).map_err(|error| invalid(&error))?;
    match command {
        Command::Unknown(any) if any.type_url.is_empty() => Err(invalid(&"it is empty")),
        Command::Unknown(any) if !any.type_url.starts_with(FLIGHT_SQL) => {
            Err(invalid(&format_args!("its type is {:?}", any.type_url)))
        }
        command => Ok(command),
    }
}

/// The message that an action of Flight SQL holds.
fn action_body<T: ProstMessageExt + Default>(action: &Action) -> Result<T, Status> {
    let invalid = |reason: &dyn std::fmt::Display| {
        Status::invalid_argument(format!("the body of the action {} cannot be read: {reason}", action.r#type))
    };
    let any = Any::decode(&*action.body).map_err(|error| invalid(&error))?;
    let message = any.unpack().map_err(|error| invalid(&error))?;
    message.ok_or_else(|| invalid(&format_args!("its type is {:?}", any.type_url)))
}

fn no_transaction(id: Option<&Bytes>) -> Result<(), Status> {
    match id {
        Some(id) if !id.is_empty() => {
            Err(Status::invalid_argument("there are no transactions: send no transaction_id"))
        }
        _ => Ok(()),
    }
}

fn schema_bytes(schema: &Schema) -> Result<Bytes, Status> {
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &arrow::ipc::writer::IpcWriteOptions::default())
        .try_into()
        .map_err(|error: arrow::error::ArrowError| Status::internal(format!("encoding the schema: {error}")))?;
    Ok(bytes)
}
