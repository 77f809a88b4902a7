"""The app of `perdure bench hello`: three activities, one after the other."""

import azure.durable_functions as df

app = df.DFApp()


@app.orchestration_trigger(context_name="context")
def hello(context: df.DurableOrchestrationContext):
    tokyo = yield context.call_activity("say_hello", "Tokyo")
    seattle = yield context.call_activity("say_hello", "Seattle")
    london = yield context.call_activity("say_hello", "London")
    return [tokyo, seattle, london]


@app.activity_trigger(input_name="city")
def say_hello(city: str) -> str:
    return f"Hello {city}!"
