//! `update_plan`: the model's list of steps, for itself and for whoever watches.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Call, Output, Planned, Tool, ToolError};
use crate::{conversation::Access, workspace::Workspace};

pub(super) struct UpdatePlan;

/// Keep a short plan for a task of several steps; send the whole list each time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    /// All steps, in order.
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// A few words.
    step: String,
    /// Where it stands.
    status: StepStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum StepStatus {
    Pending,
    InProgress,
    Completed,
}

impl Tool for UpdatePlan {
    type Input = Input;
    type Plan = Vec<Step>;
    const NAME: &'static str = "update_plan";
    const ONLY_READS: bool = true;

    fn plan(&self, input: Input, _: &Workspace) -> Result<Planned<Vec<Step>>, ToolError> {
        let done = input
            .steps
            .iter()
            .filter(|step| step.status == StepStatus::Completed)
            .count();
        let now = input
            .steps
            .iter()
            .find(|step| step.status == StepStatus::InProgress);
        let now = now
            .map(|step| format!(", now: {}", step.step))
            .unwrap_or_default();
        let title = format!("{done} of {} steps done{now}", input.steps.len());
        Ok(Planned {
            access: Access::Nothing,
            title,
            plan: input.steps,
        })
    }

    async fn run(&self, steps: Vec<Step>, _: Call) -> Result<Output, ToolError> {
        let mut list = String::new();
        for step in steps {
            let mark = match step.status {
                StepStatus::Pending => ' ',
                StepStatus::InProgress => '>',
                StepStatus::Completed => 'x',
            };
            // Writing into a String cannot fail.
            let _ = writeln!(list, "[{mark}] {}", step.step);
        }
        Ok(list.into())
    }
}
