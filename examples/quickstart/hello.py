import logging
import os
import azure.functions as func
import azure.durable_functions as df

# Instantiate a Durable Functions Blueprint
bp = df.Blueprint()

# An HTTP-triggered function that starts an instance of the orchestration
@bp.route(route="startOrchestrator")
@bp.durable_client_input(client_name="client")
async def start_orchestrator(req: func.HttpRequest, client: df.DurableOrchestrationClient):
    orchestration_id = await client.start_new("my_orchestrator", None, "World")
    logging.info(f"Started orchestration with ID = '{orchestration_id}'.")
    return client.create_check_status_response(req, orchestration_id)

# The orchestrator function, which orchestrates calls to other functions
@bp.orchestration_trigger(context_name="context")
def my_orchestrator(context: df.DurableOrchestrationContext):
    # The orchestrator is deterministic, so use context.call_activity for side-effects
    result1 = yield context.call_activity('say_hello', "Tokyo")
    result2 = yield context.call_activity('say_hello', "Seattle")
    result3 = yield context.call_activity('say_hello', "London")
    return [result1, result2, result3]

# An activity function, which performs the actual work
@bp.activity_trigger(input_name="city")
def say_hello(city: str) -> str:
    logging.info(f"Saying hello to {city}.")
    return f"Hello {city}!"
