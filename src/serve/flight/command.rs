//! What clients ask: commands of Flight SQL, and the bodies of actions.

use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::sql::{Any, Command, ProstMessageExt};
use arrow_flight::{Action, FlightDescriptor};
use prost::Message;
use tonic::Status;

/// The type of every Flight SQL command begins with this.
const FLIGHT_SQL: &str = "type.googleapis.com/arrow.flight.protocol.sql.";

/// The command of a descriptor.
pub(super) fn descriptor_command(descriptor: &FlightDescriptor) -> Result<Command, Status> {
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
pub(super) fn decode_command(what: &str, bytes: &[u8]) -> Result<Command, Status> {
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
pub(super) fn action_body<T: ProstMessageExt + Default>(action: &Action) -> Result<T, Status> {
    let invalid = |reason: &dyn std::fmt::Display| {
        Status::invalid_argument(format!("the body of the action {} cannot be read: {reason}", action.r#type))
    };
    let any = Any::decode(&*action.body).map_err(|error| invalid(&error))?;
    let message = any.unpack().map_err(|error| invalid(&error))?;
    message.ok_or_else(|| invalid(&format_args!("its type is {:?}", any.type_url)))
}

/// The message that an action of Flight itself holds.
pub(super) fn plain_body<T: Message + Default>(action: &Action) -> Result<T, Status> {
    T::decode(&*action.body).map_err(|error| {
        Status::invalid_argument(format!("the body of the action {} cannot be read: {error}", action.r#type))
    })
}
