"""The API's description, OpenAPI 3.1: made of the schemas that validate, and of a table with a row for each route.

operations.py is that table, answers.py what is answered, problems.py what goes wrong, webhooks.py what applications are sent,
examples.py one of each; document.py puts it together, page.py shows it to people.
"""
