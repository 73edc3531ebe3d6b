//! `GET /messages/{id}/dossier` and what may be given away of it.

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use store::{MessageId, MessageView};

use crate::access::role::Role;
use crate::dossier::{self, DossierOut, Eyes};
use crate::http::Shared;
use crate::http::auth::Caller;
use crate::http::problem::Problem;

/// A message the caller may see; those of others do not exist.
async fn own(app: &Shared, caller: &Caller, name: &str) -> Result<MessageView, Problem> {
    let id: MessageId = name.parse().map_err(|_| Problem::not_found())?;
    let view = dossier::view(app, id).await?;
    if caller.may_see(&view.message.sender) { Ok(view) } else { Err(Problem::not_found()) }
}

/// Who may read the text: who submitted it, and whoever may work on the queue.
fn eyes(caller: &Caller) -> Eyes {
    match caller.role() {
        Some(role) if role < Role::Operator => Eyes::Headers,
        _ => Eyes::All,
    }
}

/// All that is known of a message: timeline, attempts with their conversation, findings with all fixes, headers and text,
/// incidents, later reports.
pub async fn show(
    State(app): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<axum::Json<DossierOut>, Problem> {
    let view = own(&app, &caller, &name).await?;
    Ok(axum::Json(dossier::of(&app, &view, eyes(&caller)).await?))
}

/// The dossier to give away: addresses are numbered, the content and people's words are left out.
pub async fn export(State(app): State<Shared>, caller: Caller, Path(name): Path<String>) -> Result<Response, Problem> {
    let view = own(&app, &caller, &name).await?;
    let masked = dossier::masked(&dossier::of(&app, &view, Eyes::Headers).await?);
    let name = format!("attachment; filename=\"pillarbox-{}.json\"", view.message.id);
    Ok(([(header::CONTENT_DISPOSITION, name)], axum::Json(masked)).into_response())
}
