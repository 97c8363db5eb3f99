//! A question put to the person behind an MCP client: `elicitation/create` while the call is open, for clients up to
//! 2025-11-25, and the same form in a result for those of 2026-07-28.
//!
//! Anything but an answer (`cancel`, an error, a form we cannot read, silence) is "nobody answered": the owner's
//! strategy decides, not the accident.

use rmcp::{
    RoleServer,
    model::{
        CustomRequest, ElicitRequest, ElicitRequestParams, InputRequest, InputRequests, JsonObject,
        ProtocolVersion, ServerRequest,
    },
    service::{PeerRequestOptions, RequestContext},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::conversation::{Answer, Approval, Decision, Form, shortened, shown_line, shown_text};

/// Lines of a diff that a form shows.
const DIFF_LINES: usize = 80;

/// How a client can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Not at all.
    None,
    /// While a call is open.
    Forms,
    /// By a result that asks it to call again.
    Rounds,
}

/// True if the request is of the generation that says with each request what it needs.
pub(super) fn is_modern(call: &RequestContext<RoleServer>) -> bool {
    call.protocol_version()
        .is_some_and(|version| version >= ProtocolVersion::V_2026_07_28)
}

/// A client that declared forms can be asked.
pub(super) fn way(call: &RequestContext<RoleServer>) -> Way {
    let forms = call
        .client_capabilities()
        .and_then(|capabilities| capabilities.elicitation)
        .is_some_and(|elicitation| elicitation.form.is_some() || elicitation.url.is_none());
    match (forms, is_modern(call)) {
        (false, _) => Way::None,
        (true, false) => Way::Forms,
        (true, true) => Way::Rounds,
    }
}

/// The questions for a result, each by its id.
pub(super) fn requests(approvals: &[Approval]) -> InputRequests {
    let form = |approval: &Approval| {
        let requested_schema = serde_json::from_value(schema(approval)).ok()?;
        let params = ElicitRequestParams::FormElicitationParams {
            meta: None,
            message: message(approval),
            requested_schema,
        };
        let request = InputRequest::Elicitation(ElicitRequest::new(params));
        Some((approval.id.to_string(), request))
    };
    approvals.iter().filter_map(form).collect()
}

/// Asks, and gives the answer if one came. Ended by it, by `settled` (somebody else answered, or the turn ended), or by
/// the end of the connection. `extra` goes beside the form. Must be awaited in the task of the call, or HTTP would carry
/// it elsewhere.
pub(super) async fn ask(
    call: &RequestContext<RoleServer>,
    approval: &Approval,
    extra: JsonObject,
    settled: CancellationToken,
    eof: &CancellationToken,
) -> Option<Answer> {
    let mut form =
        json!({"mode": "form", "message": message(approval), "requestedSchema": schema(approval)});
    if let Value::Object(form) = &mut form {
        form.extend(extra);
    }
    let request: ServerRequest = CustomRequest::new("elicitation/create", Some(form)).into();
    let sending = call
        .peer
        .send_cancellable_request(request, PeerRequestOptions::no_options());
    let mut asked = tokio::select! {
        sent = sending => sent.ok()?,
        () = eof.cancelled() => return None,
    };
    let answer = tokio::select! {
        answer = &mut asked.rx => answer.ok()?.ok()?,
        () = settled.cancelled() => {
            // If the client cannot be told, it keeps a form that has no effect any more.
            let _ = asked.cancel(Some("the question is settled".to_owned())).await;
            return None;
        }
        () = eof.cancelled() => return None,
    };
    understand(
        &serde_json::to_value(answer).ok()?,
        approval.form.as_deref(),
    )
}

/// The answer in a result. Besides the protocol's own form, the spellings of the peer that users come from.
pub(super) fn understand(result: &Value, form: Option<&Form>) -> Option<Answer> {
    let content = &result["content"];
    if let Some(form) = form {
        return entered(result["action"].as_str()?, content, form);
    }
    let note = content["note"]
        .as_str()
        .map(str::to_owned)
        .filter(|note| !note.trim().is_empty());
    let given = [&content["decision"], &result["decision"]]
        .into_iter()
        .find(|given| !given.is_null());
    let stated = given.and_then(decision);
    let decision = match result["action"].as_str() {
        // A form that was accepted with nothing in it means yes; with something that we cannot read it does not.
        Some("accept") if given.is_none() && (content.is_null() || content.is_object()) => {
            Some(Decision::Approve)
        }
        Some("accept") => Some(stated.unwrap_or(Decision::Deny)),
        Some("decline") => Some(
            stated
                .filter(|stated| *stated == Decision::Abort)
                .unwrap_or(Decision::Deny),
        ),
        Some(_) => None,
        None => stated,
    };
    let answer = |decision| Answer {
        note,
        ..Answer::from(decision)
    };
    decision.map(answer)
}

/// What a person entered for a server. What does not fit its form is no answer.
fn entered(action: &str, content: &Value, form: &Form) -> Option<Answer> {
    match action {
        "accept" => Some(Answer {
            entered: Some(form.filled(content).ok()?),
            ..Answer::from(Decision::Approve)
        }),
        "decline" => Some(Decision::Deny.into()),
        _ => None,
    }
}

fn decision(value: &Value) -> Option<Decision> {
    match value.as_str() {
        Some("approve" | "approved" | "accept" | "allow" | "allowed") => Some(Decision::Approve),
        Some("approve_for_session" | "approved_for_session") => Some(Decision::ApproveForSession),
        Some("deny" | "denied" | "decline" | "reject") => Some(Decision::Deny),
        Some("abort") => Some(Decision::Abort),
        Some(_) => None,
        None if value.get("denied").is_some() => Some(Decision::Deny),
        // Its amendment would allow a prefix of commands for good; we take it for this once.
        None if value.get("approved_execpolicy_amendment").is_some() => Some(Decision::Approve),
        None => None,
    }
}

/// Our facts first, then what the model says; or whose form this is, and then its words.
fn message(approval: &Approval) -> String {
    if let Some(form) = &approval.form {
        return format!(
            "The external server `{}` wants to know something; what you enter goes there and nowhere else. It says:\n\n{}",
            shown_line(&form.server),
            shown_text(&form.message)
        );
    }
    let mut text = format!(
        "Allow openoxide to {} {}?",
        shown_line(&approval.summary),
        shown_line(&approval.place)
    );
    if !approval.detail.is_empty() {
        let lines: Vec<&str> = approval.detail.lines().collect();
        text.push_str("\n\n");
        text.push_str(&shown_text(
            &lines[..lines.len().min(DIFF_LINES)].join("\n"),
        ));
        if lines.len() > DIFF_LINES {
            text.push_str(&format!("\n… {} more lines", lines.len() - DIFF_LINES));
        }
    }
    if let Some(reason) = &approval.reason {
        text.push_str(&format!(
            "\n\nThe model says: {}",
            shortened(&shown_line(reason), 400)
        ));
    }
    if let Some(covers) = &approval.session_covers {
        text.push_str(&format!(
            "\n\n\"Approve for the session\" covers {}.",
            shown_line(covers)
        ));
    }
    text
}

/// A flat form that any client can show.
fn schema(approval: &Approval) -> Value {
    if let Some(form) = &approval.form {
        return form.schema.clone();
    }
    let mut choices = vec![("approve", "Approve this once")];
    if approval.session_covers.is_some() {
        choices.push(("approve_for_session", "Approve for the session"));
    }
    choices.extend([
        ("deny", "Deny, and let the agent go on"),
        ("abort", "Deny, and end the turn"),
    ]);
    let (names, titles): (Vec<&str>, Vec<&str>) = choices.into_iter().unzip();
    json!({
        "type": "object",
        "properties": {
            "decision": {"type": "string", "title": "Decision", "enum": names, "enumNames": titles},
            "note": {"type": "string", "title": "A word for the agent", "maxLength": 500}
        },
        "required": ["decision"]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::{ApprovalId, ApprovalKind, CallId, TurnId};

    #[test]
    fn a_form_in_a_result_is_the_form_that_is_sent() {
        let approval = Approval {
            id: ApprovalId::generate(),
            turn_id: TurnId::generate(),
            call_id: CallId("c".into()),
            kind: ApprovalKind::Command,
            summary: "run `make`".into(),
            place: "in `/w`".into(),
            detail: String::new(),
            reason: None,
            stands_on: String::new(),
            session_covers: Some("`make`".into()),
            form: None,
        };
        let requests = serde_json::to_value(requests(std::slice::from_ref(&approval))).unwrap();
        let request = &requests[approval.id.to_string()];
        assert_eq!(request["method"], "elicitation/create");
        assert_eq!(request["params"]["mode"], "form");
        assert_eq!(request["params"]["requestedSchema"], schema(&approval));
    }

    #[test]
    fn every_way_of_answering_is_understood() {
        for (result, expected) in [
            (
                json!({"action": "accept", "content": {"decision": "approve"}}),
                Some(Decision::Approve),
            ),
            (
                json!({"action": "accept", "content": {"decision": "deny"}}),
                Some(Decision::Deny),
            ),
            (
                json!({"action": "accept", "content": {"decision": "abort"}}),
                Some(Decision::Abort),
            ),
            (
                json!({"action": "accept", "content": {}}),
                Some(Decision::Approve),
            ),
            (json!({"action": "accept"}), Some(Decision::Approve)),
            (
                json!({"action": "accept", "content": {"decision": "maybe"}}),
                Some(Decision::Deny),
            ),
            (
                json!({"action": "accept", "content": {"decision": ["approve"]}}),
                Some(Decision::Deny),
            ),
            (
                json!({"action": "accept", "content": "approve"}),
                Some(Decision::Deny),
            ),
            (json!({"action": "decline"}), Some(Decision::Deny)),
            (json!({"action": "cancel"}), None),
            (json!({"decision": "approved"}), Some(Decision::Approve)),
            (
                json!({"decision": "approved_for_session"}),
                Some(Decision::ApproveForSession),
            ),
            (
                json!({"decision": {"denied": {"rejection": "no"}}}),
                Some(Decision::Deny),
            ),
            (
                json!({"action": "accept", "content": {}, "decision": "denied"}),
                Some(Decision::Deny),
            ),
            (json!({"action": "weird"}), None),
            (json!({}), None),
            (json!("approved"), None),
        ] {
            assert_eq!(
                understand(&result, None).map(|answer| answer.decision),
                expected,
                "{result}"
            );
        }
    }
}
