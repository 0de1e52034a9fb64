//! Statements that clients ask for, and what the server keeps of them: transactions, the queries that run, and values of
//! parameters.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::FlightData;
use arrow_flight::sql::{Command, CommandPreparedStatementQuery};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tonic::Status;

use super::binding::Bindings;
use super::running::Running;
use super::ticket::{Handle, Stated};
use super::transaction::Transactions;
use crate::query::about::rows::Described;
use crate::query::ipc::rows_of;
use crate::query::request::{Options, Request};
use crate::query::room::Close;
use crate::query::statements::Statements;
use crate::query::tail::TailRequest;
use crate::query::{Prepared, SCHEMA};
use crate::serve::listener::{Peer, PeerId};
use crate::serve::trace::{self, TracedFrames};

/// What a command asks for.
pub(super) enum Asked {
    Statement(Stated),
    Catalog(Command),
}

/// Plans and runs statements.
#[derive(Debug)]
pub(super) struct Queries {
    pub(super) statements: Arc<dyn Statements>,
    pub(super) transactions: Arc<Transactions>,
    pub(super) running: Running,
    pub(super) bindings: Bindings,
}

impl Queries {
    pub(super) fn new(statements: Arc<dyn Statements>) -> Queries {
        Queries { statements, transactions: Arc::default(), running: Running::default(), bindings: Bindings::default() }
    }

    /// The statement of a command, as a query of its own, or the command if it is about the catalog.
    pub(super) fn stated(&self, command: Command, options: &Options, peer: Option<&PeerId>) -> Result<Asked, Status> {
        let stated = match command {
            Command::CommandStatementQuery(query) => {
                Stated::new(query.query, query.transaction_id)?.query(None, options.clone())?
            }
            Command::CommandPreparedStatementQuery(CommandPreparedStatementQuery {
                prepared_statement_handle: handle,
            }) => {
                let mut prepared = Handle::Prepared.decode(&handle)?;
                prepared.transaction = self.transactions.present(prepared.transaction, peer);
                let values = if prepared.parameters.is_empty() { self.bindings.of(prepared.id()) } else { None };
                prepared.query(values, options.clone())?
            }
            other => return Ok(Asked::Catalog(other)),
        };
        Ok(Asked::Statement(stated))
    }

    /// The views. They have their columns if these are asked for, and can be planned.
    pub(super) async fn views(&self, with_columns: bool, client: String) -> Vec<Described> {
        let mut described = Vec::new();
        for view in self.statements.sql_views().iter() {
            let sql = format!("SELECT * FROM {SCHEMA}.{}", view.name);
            let request = Request { client: client.clone(), ..Request::new(sql) };
            let planned = if with_columns { self.statements.prepare(&request).await.ok() } else { None };
            described.push(Described::view(view, planned.map_or_else(|| Schema::empty().into(), |plan| plan.schema)));
        }
        described
    }

    /// The schema of the statement's result, and its parameters.
    pub(super) async fn plan(&self, method: &'static str, stated: &Stated, client: String) -> Result<Prepared, Status> {
        if !stated.transaction.is_empty() {
            self.transactions.check(&stated.transaction)?;
        }
        let work = async { Ok(self.statements.prepare(&request_of(stated, client)).await?) };
        trace::within(&trace::query(method, &stated.sql), work).await
    }

    /// Begins the statement. Dropping the stream, as tonic does when the client goes away, ends it.
    pub(super) async fn execute(
        &self,
        method: &'static str,
        stated: &Stated,
        client: String,
        peer: Option<Peer>,
    ) -> Result<BoxStream<'static, Result<FlightData, Status>>, Status> {
        let span = trace::query(method, &stated.sql);
        let mut query = self.running.begin(stated.id())?;
        let begin = async {
            let mut request = request_of(stated, client);
            if !stated.transaction.is_empty() {
                let newest = async { Ok(self.statements.moment().await?) };
                request.moment = Some(self.transactions.moment(&stated.transaction, newest).await?);
            }
            Ok(self.statements.execute(&request).await?)
        };
        let mut frames = trace::within(&span, query.until_cancelled(begin)).await?;
        if let Some(peer) = peer {
            frames.close_by(Arc::new(move || peer.close()));
        }
        let frames = query.within(frames.map_err(Status::from).boxed());
        Ok(TracedFrames { frames, span, rows: 0 }.boxed())
    }

    /// The schema of a tail.
    pub(super) async fn tail_schema(&self, method: &'static str, tail: &TailRequest) -> Result<SchemaRef, Status> {
        let request = tail.plan()?;
        let work = async { Ok(self.statements.prepare(&request).await?.schema) };
        trace::within(&trace::query(method, &request.sql), work).await
    }

    /// Begins a tail. Dropping the stream ends it.
    pub(super) async fn follow(
        &self,
        tail: &TailRequest,
        peer: Option<Peer>,
    ) -> Result<BoxStream<'static, Result<FlightData, Status>>, Status> {
        let span = trace::query("DoGet", &tail.sql()?);
        let close = peer.map(|peer| Arc::new(move || peer.close()) as Close);
        let begin = async { Ok(self.statements.tail(tail, close).await?) };
        let frames = trace::within(&span, begin).await?.map_err(Status::from).boxed();
        Ok(TracedFrames { frames, span, rows: 0 }.boxed())
    }

    /// Runs a statement whose result nobody reads, as `executemany` does. Returns the number of its rows.
    pub(super) async fn count(&self, stated: &Stated, client: String) -> Result<i64, Status> {
        let mut frames = self.execute("DoPut", stated, client, None).await?;
        let mut count = 0;
        while let Some(frame) = frames.try_next().await? {
            count += rows_of(&frame.data_header);
        }
        Ok(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

fn request_of(stated: &Stated, client: String) -> Request {
    Request {
        sql: stated.sql.clone(),
        parameters: stated.parameters.clone(),
        options: stated.options.clone().unwrap_or_default(),
        client,
        ..Request::default()
    }
}
