"""The same trainings through this project and through what people use today, each in a process of its own."""
