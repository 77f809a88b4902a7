# In your main function_app.py, register the blueprint:
import azure.functions as func
from hello import bp

app = func.FunctionApp()
app.register_functions(bp)
